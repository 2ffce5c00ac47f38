-- The book without Quarto: its pages read, numbered, linked and written by one `pandoc lua`.
-- The filters that lay a chapter out for Quarto do it here as well; the rest is what Quarto adds to
-- Pandoc: numbers of figures, tables and equations, references to them, callouts, folded code.
-- In: JSON from fewlabels/book/preview.py, which says what is in it. Out: references that lead nowhere.
local KINDS = { fig = "Figure", tbl = "Table", eq = "Equation", sec = "Section" }

local book = pandoc.json.decode(io.read("a"), false)
local pages, labels, missing, ordinals = {}, {}, pandoc.List({}), { chapter = 0, appendix = 0 }
local page, counts, levels

local function path(...) return pandoc.path.join({ book.root, ... }) end

local function read(...)
  local file <close> = io.open(path(...), "rb")
  return file and file:read("a")
end

local function kind_of(id) return KINDS[id:match("^(%l+)%-")] end

-- Reading ---------------------------------------------------------------------------------------

-- What the layout asks of Quarto.
quarto = {
  doc = { is_format = function(format) return format == "html" end },
  project = { directory = book.root },
}
local layout = dofile(path("styles/front.lua"))
for _, filter in ipairs(dofile(path("styles/book.lua"))) do table.insert(layout, filter) end
local notebook = dofile(path("styles/notebook.lua"))

-- A label after an equation is Quarto's; Pandoc knows spans with one.
local function markdown(text)
  return pandoc.read((text:gsub("(%$%$[^$]+%$%$)%s*{#(eq%-[%w-]+)}", "[%1]{#%2 .equation}")))
end

-- The text of a page as it was run, or frozen, or as it is written, and what reads it.
local function text_of(each)
  local frozen = read("_freeze", (each.source:gsub("%.%w+$", "")), "execute-results/html.json")
  if frozen and not each.run then return pandoc.json.decode(frozen).result.markdown, markdown end
  local text = read(each.run or each.source)
  if each.source:match("%.ipynb$") then return text, function(cells) return notebook(cells, markdown) end end
  return text, markdown
end

-- Pages are numbered by their first heading before any of them is read.
local function ordinal(each)
  local pattern = each.reader == markdown and "\n#%s+([^\n]*)" or '"#%s+([^"\\]*)'
  local head = ("\n" .. each.text):match(pattern)
  if not head or head:match("%.unnumbered") then return nil end
  ordinals[each.kind] = ordinals[each.kind] + 1
  return each.kind == "appendix" and string.char(64 + ordinals.appendix) or tostring(ordinals.chapter)
end

local function image(img)
  img.caption = { pandoc.Str(img.attributes["fig-alt"] or pandoc.utils.stringify(img.caption)) }
  img.attributes = {}
  return img
end

-- Numbering: a `walk` from the top would keep the order of reading, but takes minutes ---------------

local number = {}

local function numbered(blocks)
  local done = pandoc.Blocks({})
  for _, block in ipairs(blocks) do
    local new = number[block.t] and number[block.t](block) or block
    if pandoc.utils.type(new) == "Block" then done:insert(new) else done:extend(new) end
  end
  return done
end

local function note(id, kind, own) labels[id] = { page = page, kind = kind, number = own } end

-- Notes the label and puts its number before the caption.
local function headed(id, caption)
  local kind = kind_of(id)
  counts[kind] = (counts[kind] or 0) + 1
  note(id, kind, (page.number and page.number .. "." or "") .. counts[kind])
  local head = kind .. "\u{a0}" .. labels[id].number .. (#caption > 0 and ":" or "")
  return pandoc.Inlines({ pandoc.Span(head, { class = "caption-number" }), pandoc.Space() }) .. caption
end

local function figure(id, class, caption, blocks, attributes)
  local shown = pandoc.Div(blocks, attributes)
  return pandoc.Figure({ shown }, { long = { pandoc.Plain(caption) } }, { id = id, class = class })
end

local function folded(summary, blocks, open)
  local function html(text) return pandoc.Blocks({ pandoc.RawBlock("html", text) }) end
  local head = html(open and "<details open><summary>" or "<details><summary>") .. { pandoc.Plain(summary) }
  return head .. html("</summary>") .. blocks .. html("</details>")
end

local function callout(div, kind)
  local title, blocks = pandoc.Inlines(kind:gsub("^%l", string.upper)), div.content
  if blocks[1] and blocks[1].t == "Header" then title = blocks:remove(1).content end
  local collapse = div.attributes.collapse
  blocks = numbered(blocks)
  if collapse then blocks = folded(title, blocks, collapse == "false")
  else blocks:insert(1, pandoc.Div(pandoc.Plain(title), { class = "callout-title" })) end
  return pandoc.Div(blocks, { class = "callout callout-" .. kind })
end

-- For blocks side by side.
local function columns(div)
  local count = div.attributes["layout-ncol"]
  return count and { style = "--columns: " .. count, ["data-columns"] = "yes" } or {}
end

-- A cell or div with a label: its caption is an attribute or the last paragraph.
local function labelled(div)
  local code, shown = pandoc.Blocks({}), pandoc.Blocks({})
  for _, block in ipairs(div.content) do (block.t == "CodeBlock" and code or shown):insert(block) end
  shown:extend(pandoc.read(div.attributes["tbl-cap"] or "").blocks)
  local last = shown[#shown]
  local caption = headed(div.identifier, last and last.t == "Para" and shown:remove().content or pandoc.Inlines({}))
  local label, letter = labels[div.identifier], 96
  shown = shown:walk({ Figure = function(panel)
    letter = letter + 1
    local part = ("(%c)"):format(letter)
    note(panel.identifier, label.kind, label.number .. " " .. part)
    local words = pandoc.Inlines(part .. " ") .. pandoc.utils.blocks_to_inlines(panel.caption.long)
    return figure(panel.identifier, "panel", words, panel.content)
  end })
  return pandoc.Blocks({ figure(div.identifier, label.kind:lower(), caption, shown, columns(div)) }) .. numbered(code)
end

function number.Div(div)
  local callouts = div.classes:filter(function(class) return class:match("^callout%-") end)
  if div.identifier:match("^fig%-") or div.identifier:match("^tbl%-") then return labelled(div) end
  if #callouts > 0 then return callout(div, callouts[1]:sub(9)) end
  div.attributes, div.content = columns(div), numbered(div.content)
  return div
end

function number.BlockQuote(quote)
  quote.content = numbered(quote.content)
  return quote
end

function number.BulletList(list)
  list.content = list.content:map(function(item) return numbered(item) end)
  return list
end
number.OrderedList = number.BulletList

function number.CodeBlock(code) return code.classes:includes("cell-code") and folded("Code", { code }) end

function number.Figure(block)
  local id, caption = block.identifier, pandoc.utils.blocks_to_inlines(block.caption.long)
  return figure(id, "figure", id:match("^fig%-") and headed(id, caption) or caption, block.content)
end

function number.Table(block)
  local id, caption = block.identifier, pandoc.utils.blocks_to_inlines(block.caption.long)
  if not id:match("^tbl%-") then return block end
  block.identifier, block.caption = "", { long = {} }
  return figure(id, "table", headed(id, caption), { block })
end

function number.Para(para)
  return para:walk({ Span = function(span)
    if not span.classes:includes("equation") then return nil end
    headed(span.identifier, {})
    local own = "(" .. labels[span.identifier].number .. ")"
    span.content:insert(pandoc.Span(own, { class = "equation-number" }))
    return span
  end })
end

function number.Header(header)
  local level, text = header.level, pandoc.utils.stringify(header)
  local counted = not header.classes:includes("unnumbered")
  if not page.title then
    page.title = text
    levels = { page.number, 0, 0, 0, 0, 0 }
  end
  if not (counted and page.number) then return note(header.identifier, nil, "\u{201c}" .. text .. "\u{201d}") end
  if level > 1 then levels[level] = levels[level] + 1 end
  for deeper = level + 1, 6 do levels[deeper] = 0 end
  local own = table.concat(levels, ".", 1, level)
  note(header.identifier, level > 1 and "Section" or page.kind:gsub("^%l", string.upper), own)
  local span = pandoc.Span(own, { class = "header-section-number" })
  header.content = pandoc.Inlines({ span, pandoc.Str("\u{2002}") }) .. header.content
  return header
end

-- Lays a page out, whose labels are known then; in the midst of another one, too.
local function lay_out(each)
  local other = { page, counts, levels }
  page, counts = each, {}
  local doc = each.reader(each.text)
  for _, filter in ipairs(layout) do doc = doc:walk(filter) end
  each.blocks = numbered(doc:walk({ Image = image }).blocks)
  page, counts, levels = other[1], other[2], other[3]
end

-- Linking ---------------------------------------------------------------------------------------

local references = pandoc.read(read("references.bib"), "bibtex").meta.references
local known = references:map(function(each) return pandoc.utils.stringify(each.id) end)
local link = {}

local function leads_nowhere(id) missing:insert(id .. " in " .. pandoc.path.filename(page.source)) end

-- A page that is not written is read when one of its labels is asked for: it takes long. Those that
-- seem to define it come before those that name it.
local function labelled_elsewhere(id)
  for _, sign in ipairs({ "#" .. id, id }) do
    for _, each in ipairs(book.pages) do
      if not labels[id] and not each.blocks and each.text:find(sign, 1, true) then lay_out(each) end
    end
  end
  return labels[id]
end

local function reference(cited)
  local label = labels[cited.id] or labelled_elsewhere(cited.id)
  if not label then
    leads_nowhere(cited.id)
    return { pandoc.Strong("?@" .. cited.id) }
  end
  local alone = cited.mode == "SuppressAuthor" or not label.kind
  local words = pandoc.Inlines({ pandoc.Str((alone and "" or label.kind .. "\u{a0}") .. label.number) })
  if label.page.output then
    local target = (label.page == page and "" or label.page.file) .. "#" .. cited.id
    words = pandoc.Inlines({ pandoc.Link(words, target, "", { class = "crossref" }) })
  end
  return (#cited.prefix > 0 and cited.prefix .. { pandoc.Space() } or cited.prefix) .. words .. cited.suffix
end

-- Pandoc takes `@fig-x` for a citation, and `@fig-x [@smith]` for one group.
function link.Cite(cite)
  local done, ours = pandoc.Inlines({}), false
  for _, cited in ipairs(cite.citations) do
    if #done > 0 then done:extend({ pandoc.Str(","), pandoc.Space() }) end
    if kind_of(cited.id) then
      done:extend(reference(cited))
      ours = true
    else
      done:insert(pandoc.Cite({}, { cited }))
      if not known:includes(cited.id) then leads_nowhere(cited.id) end
    end
  end
  return ours and done or nil
end

-- Links between sources become links between pages.
function link.Link(to)
  local name, fragment = to.target:match("([^/#]+)(#?[^#]*)$")
  local target = pages[name]
  if target and target.output then to.target = target.file .. fragment end
  return to
end

-- Writing ---------------------------------------------------------------------------------------

-- A page carries its images. Put in at the end: Pandoc takes long over links of a megabyte.
local function embedded(src)
  local chapter, name = src:match("([^/]+)_files/(.+)$")
  local bytes = chapter and read("_freeze/chapters", chapter, name) or read(pandoc.path.directory(page.source), src)
  local function uri() return pandoc.mediabag.make_data_uri("image/" .. src:match("%w*$"):gsub("^svg$", "svg+xml"), bytes) end
  return bytes and ('<img src="%s"'):format(uri())
end

for _, each in ipairs(book.pages) do
  each.text, each.reader = text_of(each)
  each.number = ordinal(each)
  pages[pandoc.path.filename(each.source)] = each
end

local options = pandoc.WriterOptions({
  template = pandoc.template.compile(read("styles/preview.html")),
  table_of_contents = true,
  html_math_method = "mathml",
  wrap_text = "none",
  variables = { css = read("styles/preview.css"), ["include-after"] = read("styles/tables.html") },
})
local written = pandoc.List(book.pages):filter(function(each) return each.output end)
for _, each in ipairs(written) do lay_out(each) end
for _, each in ipairs(written) do
  page = each
  local contents = written:map(function(other)
    local current = other == page and { ["aria-current"] = "page" } or {}
    return pandoc.Link((other.number and other.number .. " " or "") .. other.title, other.file, "", current)
  end)
  local doc = pandoc.utils.citeproc(pandoc.Pandoc(page.blocks:walk(link), {
    references = references,
    ["link-citations"] = true,
    ["reference-section-title"] = "References",
    pagetitle = page.title,
    note = page.note,
    pages = #written > 1 and pandoc.Inlines(contents) or nil,
  }))
  local file <close> = assert(io.open(page.output, "wb"))
  file:write((pandoc.write(doc, "html5", options):gsub('<img src="([^"]+)"', embedded)))
end
for _, each in ipairs(missing) do print(each) end
