"""One look for every page and picture. No torch.

`numbers` writes numbers and names for people. `svg` has what pictures are made of; `histogram`, `intervals` and
`curves` are pictures, pure functions of numbers, and `svg.sheet` puts several into one file. `template.render` makes a
page: its template extends `page.html.jinja`, which has the head and `style.css`, and takes what scrolls and what is a
figure from `macros.html.jinja`.

To add a page, write a `page.html.jinja` in the wing that it belongs to, as `audit` and `reports/rewards` do, and a
function that renders it. To add a picture, return a `svg.Picture`, or None where there is nothing to draw.
"""
