-- A notebook as the blocks that Quarto would freeze it to, for what is not frozen: a reader's own
-- run, a chapter that is still being written.

-- The form of an output that a page shows best comes first.
local MIMES = { "text/markdown", "text/html", "image/svg+xml", "image/png", "image/jpeg", "text/plain" }

local stringify = pandoc.utils.stringify

local function joined(lines) return type(lines) == "table" and table.concat(lines) or lines end

-- The `#|` options at the head of a code cell, texts read as Markdown, and the code below.
local function split(source)
  local head, code = "", source
  while code:match("^#|") do
    local line, rest = code:match("^#|([^\n]*)\n?(.*)$")
    head, code = head .. line .. "\n", rest
  end
  return pandoc.read("---\n" .. head .. "\n---\n").meta, (code:gsub("^\n+", ""):gsub("\n+$", ""))
end

local function printed(out, options)
  -- A carriage return overwrites its line, as progress bars do.
  local text = joined(out.text):gsub("\r*\n", "\n"):gsub("%s+$", ""):gsub("[^\n]*\r", "")
  if text == "" or out.name == "stderr" and options.warning == false then return {} end
  return options.output and pandoc.read(text).blocks or { pandoc.CodeBlock(text) }
end

local function image(mime, data, options, label, caption)
  local src = mime:match("svg") and pandoc.mediabag.make_data_uri(mime, data)
    or ("data:%s;base64,%s"):format(mime, (data:gsub("%s", "")))
  local alt = options["fig-alt"] or caption
  return pandoc.Figure({ pandoc.Plain(pandoc.Image(alt, src)) }, { long = { pandoc.Plain(caption) } }, { id = label })
end

local function result(data, options, label, caption)
  for _, mime in ipairs(MIMES) do
    local content = joined(data[mime])
    if content and mime == "text/markdown" then return pandoc.read(content).blocks
    elseif content and mime == "text/html" then return { pandoc.RawBlock("html", content) }
    elseif content and mime == "text/plain" then return { pandoc.CodeBlock(content) }
    elseif content then return { image(mime, content, options, label, caption) } end
  end
  return {}
end

local function code_cell(cell)
  local options, code = split(joined(cell.source))
  local blocks, label = pandoc.Blocks({}), stringify(options.label or "")
  if options.include == false then return blocks end
  if code ~= "" and options.echo ~= false then
    blocks:insert(pandoc.CodeBlock(code, { class = "python cell-code" }))
  end
  local caption, parts = options["fig-cap"] or options["tbl-cap"] or pandoc.Inlines({}), options["fig-subcap"]
  local is_figure, shown, drawn = label:match("^fig%-"), 0, false
  for _, out in ipairs(options.output == false and {} or cell.outputs) do
    if out.output_type == "stream" then blocks:extend(printed(out, options))
    elseif out.output_type == "error" then blocks:insert(pandoc.CodeBlock(out.ename .. ": " .. out.evalue))
    else
      shown, drawn = shown + 1, drawn or not out.data["text/markdown"]
      local own = is_figure and (parts and label .. "-" .. shown or label) or ""
      blocks:extend(result(out.data, options, own, parts and parts[shown] or caption))
    end
  end
  -- What stands as it was printed belongs to the chapter, not to the cell.
  if options.output and stringify(options.output) == "asis" or #blocks == 0 then return blocks end
  -- A figure has its label and caption itself; a place for one not made yet, and a sentence in its
  -- place, give them a number.
  local missing = #cell.outputs == 0 and (is_figure or label:match("^tbl%-"))
  local sentence = is_figure and shown > 0 and not drawn
  local own = (missing or sentence or parts or label:match("^tbl%-")) and label or ""
  if missing then blocks:insert(pandoc.Para(pandoc.Emph("Not run yet."))) end
  if own ~= "" then blocks:insert(pandoc.Para(caption)) end
  local attributes = { id = own, class = "cell " .. stringify(options.classes or "") }
  attributes["layout-ncol"] = options["layout-ncol"] and stringify(options["layout-ncol"])
  return { pandoc.Div(blocks, attributes) }
end

return function(content, markdown)
  local blocks = pandoc.Blocks({})
  for _, cell in ipairs(pandoc.json.decode(content, false).cells) do
    blocks:extend(cell.cell_type == "code" and code_cell(cell) or markdown(joined(cell.source)).blocks)
  end
  return pandoc.Pandoc(blocks)
end
