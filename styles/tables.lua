-- Cells and list items of plain words, written at once. Quarto walks through the whole page some
-- sixty times, and most of a page's words stand in long tables and lists of reasons. What Quarto
-- resolves (references, citations, notes, formulas, pictures; on paper links and spans) stays.

local KEPT = { "Cite", "Image", "Math", "Note", "RawInline" }
local WORDS = 16

local function written(inlines, to, kept)
  if #inlines < WORDS then return nil end
  local plain, seen = true, {}
  for _, kind in ipairs(kept) do seen[kind] = function() plain = false end end
  inlines:walk(seen)
  if not plain then return nil end
  local text = pandoc.write(pandoc.Pandoc({ pandoc.Plain(inlines) }), to, { wrap_text = "none" })
  return pandoc.Inlines({ pandoc.RawInline(to, (text:gsub("%s+$", ""))) })
end

local function squeezed(to, kept)
  local function block(each)
    local found = written(each.content, to, kept)
    if found then each.content = found end
    return each
  end
  local inside = { Plain = block, Para = block }
  return {
    -- Its caption holds its label, which Quarto reads.
    Table = function(table)
      local done = table:walk(inside)
      done.caption = table.caption
      return done
    end,
    BulletList = function(list) return list:walk(inside) end,
  }
end

return {
  { Pandoc = function(doc)
    if quarto.doc.is_format("html") then return doc:walk(squeezed("html", KEPT)) end
    if quarto.doc.is_format("latex") then
      return doc:walk(squeezed("latex", { "Link", "Span", table.unpack(KEPT) }))
    end
  end },
}
