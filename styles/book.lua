-- What Quarto does to a chapter before it is laid out: setup cells go to the end, so that no page
-- opens with code, and silent cells are joined; on paper, verdicts get their colour, and the ledger's reasons stay in their table.

local SIGN = {
  agrees = { "Supported", "●" }, holds = { "Supported", "●" }, yes = { "Supported", "●" },
  contradicted = { "Refuted", "■" }, opposite = { "Refuted", "■" }, no = { "Refuted", "■" },
}

local function silent(block)
  if block.t ~= "Div" or not block.classes:includes("cell") then return false end
  for _, inner in ipairs(block.content) do
    if inner.t ~= "CodeBlock" then return false end
  end
  return true
end

-- What a cell shows comes before the fold with its code.
local function code_last(cell)
  if not cell.classes:includes("cell") or not quarto.doc.is_format("html") then return nil end
  local code, shown = pandoc.Blocks({}), pandoc.Blocks({})
  for _, block in ipairs(cell.content) do
    (block.t == "CodeBlock" and code or shown):insert(block)
  end
  cell.content = shown .. code
  return cell
end

-- Cells that show nothing and follow each other are one fold.
local function joined(blocks)
  local out, last = pandoc.Blocks({}), nil
  for _, block in ipairs(blocks) do
    local quiet = silent(block) and #block.content == 1
    if quiet and last then
      local code, more = last.content[1], block.content[1]
      code.text = code.text .. "\n\n" .. more.text
      last.content = pandoc.Blocks({ code })
      out[#out] = last
    else
      out:insert(block)
    end
    last = quiet and out[#out] or nil
  end
  return out
end

local function setup_last(doc)
  if not quarto.doc.is_format("html") then return nil end
  local kept, setup, before = pandoc.Blocks({}), pandoc.Blocks({}), true
  for _, block in ipairs(doc.blocks) do
    if block.t == "Header" and block.level == 2 then before = false end
    if before and silent(block) then setup:insert(block) else kept:insert(block) end
  end
  kept = joined(kept)
  if #setup == 0 then return pandoc.Pandoc(kept, doc.meta) end
  local attr = pandoc.Attr("setup", { "unnumbered", "unlisted" })
  kept:insert(pandoc.Header(2, "Setup", attr))
  kept:insert(pandoc.Para("Cells that the ones above build on: the parameters, the runs, and the claims."))
  kept:extend(joined(setup))
  return pandoc.Pandoc(kept, doc.meta)
end

local function on_paper(span)
  if not quarto.doc.is_format("latex") then return nil end
  if span.classes:includes("why") or span.classes:includes("tag") then return {} end
  if span.classes:includes("verdict") then
    for word, sign in pairs(SIGN) do
      if span.classes:includes(word) then
        local open = pandoc.RawInline("latex", "\\textcolor{" .. sign[1] .. "}{")
        return { open, span, pandoc.RawInline("latex", "}") }
      end
    end
  end
end

-- The strip of claims is a line of links on the page and a picture on paper; a chapter's reasons
-- fold on the page, and on paper they stand in the ledger alone.
local DROPPED = { latex = { "tiles", "reasons" }, html = { "paper" } }

local function either(div)
  for _, class in ipairs(DROPPED[quarto.doc.is_format("latex") and "latex" or "html"]) do
    if div.classes:includes(class) then return {} end
  end
end

-- The date on the title page names the commit that is rendered.
local function version(meta)
  if not meta.date then return nil end
  local there, commit = pcall(pandoc.pipe, "git", { "describe", "--always", "--dirty" }, "")
  if not there then return nil end
  local said = ", version " .. commit:gsub("%s+$", "")
  meta.date = pandoc.MetaInlines(pandoc.Inlines(pandoc.utils.stringify(meta.date) .. said))
  return meta
end

return { { Meta = version }, { Pandoc = setup_last }, { Span = on_paper, Div = either }, { Div = code_last } }
