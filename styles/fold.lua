-- The fold around a cell's code. Quarto's own is the same, but reads the word "Code" as Markdown anew
-- for every cell, which takes a tenth of a chapter's time.

local function html(text) return pandoc.RawBlock("html", text) end

local function fold(block)
  if not quarto.doc.is_format("html") or not block.classes:includes("cell-code") then return nil end
  if block.attributes["code-fold"] then return nil end
  block.attributes["code-fold"] = "none"
  return { html('<details class="code-fold">\n<summary>Code</summary>'), block, html("</details>") }
end

return { { CodeBlock = fold } }
