-- Cells and list items of plain words, written at once. Quarto walks through the whole page some
-- sixty times, and most of a page's words stand in long tables and lists of reasons. What Quarto
-- resolves (references, citations, notes, formulas, pictures; on paper links and spans) stays.

local PLAIN = {
  Str = true, Space = true, SoftBreak = true, Code = true, Emph = true, Strong = true, Quoted = true,
}
local WORDS = 4

local function written(inlines, to, plain)
  if #inlines < WORDS then return nil end
  local all = true
  inlines:walk({ Inline = function(inline) all = all and plain[inline.t] end })
  if not all then return nil end
  local text = pandoc.write(pandoc.Pandoc({ pandoc.Plain(inlines) }), to, { wrap_text = "none" })
  return pandoc.Inlines({ pandoc.RawInline(to, (text:gsub("%s+$", ""))) })
end

local function squeezed(to, plain)
  local function block(plain_block)
    local found = written(plain_block.content, to, plain)
    if found then plain_block.content = found end
    return plain_block
  end
  local inside = { Plain = block, Para = block }
  return {
    Table = function(table) return table:walk(inside) end,
    BulletList = function(list) return list:walk(inside) end,
  }
end

return {
  { Pandoc = function(doc)
    local html, paper = quarto.doc.is_format("html"), quarto.doc.is_format("latex")
    local plain = setmetatable(html and { Link = true, Span = true } or {}, { __index = PLAIN })
    if html then return doc:walk(squeezed("html", plain)) end
    if paper then return doc:walk(squeezed("latex", plain)) end
  end },
}
