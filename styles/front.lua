-- The front page: blocks of frozen chapters, so that it says what they say. A block
-- ::: {.from chapter="08-replication-ledger" ids="strip"} is filled with the chapter's blocks of
-- these ids, and figure="fig-x" adds one of its figures as a picture that leads to it. A .finding
-- takes the first paragraph of each block, below its head, which leads to the figure as well.

local function read(path)
  local file = io.open(path, "r")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

local chapters = {}

-- The frozen Markdown, unread: a whole chapter takes Pandoc a second.
local function frozen(chapter)
  if chapters[chapter] == nil then
    local to = quarto.doc.is_format("latex") and "tex" or "html"
    local base = quarto.project.directory .. "/_freeze/chapters/" .. chapter
    local text = read(base .. "/execute-results/" .. to .. ".json")
    chapters[chapter] = text and pandoc.json.decode(text, false).result.markdown
  end
  return chapters[chapter]
end

local function place(text, before, id) return text:find(before .. "{#" .. id:gsub("%p", "%%%0") .. "[ }]") end

-- A div from its first line to the one that closes it.
local function block_of(text, id)
  local from = place(text, "\n::: ", id)
  if not from then return nil end
  local depth, to = 0, from
  for line, behind in text:sub(from + 1):gmatch("([^\n]*)\n()") do
    if line:match("^:::+%s*$") then depth = depth - 1 elseif line:match("^:::+") then depth = depth + 1 end
    to = from + behind - 1
    if depth == 0 then break end
  end
  return pandoc.read(text:sub(from + 1, to), "markdown").blocks[1]
end

local function image_of(text, id)
  local at = place(text, "", id)
  local from = at and text:sub(1, at):match(".*()\n!%[")
  if not from then return nil end
  local found = text:sub(from + 1, at - 1) .. text:match("^[^\n]*", at)
  return pandoc.read(found, "markdown-implicit_figures").blocks[1].content[1]
end

local function here(chapter, blocks)
  return blocks:walk({ Link = function(link)
    if link.target:match("^[%w-]+%.ipynb") then link.target = "chapters/" .. link.target end
    return link
  end })
end

local function fill(div)
  local chapter = div.attributes["chapter"]
  if not chapter then return nil end
  local text, out = frozen(chapter), pandoc.Blocks({})
  if not text then return pandoc.Para("This chapter is not frozen yet.") end
  local page = "chapters/" .. chapter .. ".ipynb"
  local figure, whole = div.attributes["figure"], div.classes:includes("whole")
  local short = div.classes:includes("finding")
  local image, picture = figure and image_of(text, figure), nil
  if image then
    local caption = image.caption
    image.src = "chapters/" .. image.src
    image.caption = pandoc.Inlines(image.attributes["fig-alt"] or "")
    image.identifier, image.classes, image.attributes = "", { "thumbnail" }, {}
    if quarto.doc.is_format("latex") and not whole then image.attributes.width = "45%" end
    picture = pandoc.Plain(pandoc.Link({ image }, page .. "#" .. figure))
    -- On paper a finding's picture stands below its text: above, it seems to belong to the one before.
    if not (short and quarto.doc.is_format("latex")) then out:insert(picture) end
    if whole then out:insert(pandoc.Div(pandoc.Para(caption), pandoc.Attr("", { "caption" }))) end
  end
  for id in (div.attributes["ids"] or ""):gmatch("%S+") do
    local block = block_of(text, id)
    if block then
      block.identifier = ""
      if short then
        local head = pandoc.Link(div.attributes["head"], page .. "#" .. figure)
        block.content = pandoc.Blocks({ pandoc.Para(pandoc.Strong(head)), block.content[1] })
      end
      out:extend(here(chapter, pandoc.Blocks({ block })))
    end
  end
  if picture and short and quarto.doc.is_format("latex") then out:insert(picture) end
  return pandoc.Div(out, pandoc.Attr("", { short and "finding" or "from" }))
end

return { { Div = function(div) if div.classes:includes("from") then return fill(div) end end } }
