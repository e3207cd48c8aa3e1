"""The page at `/`: what is here, from the route table. No script, nothing fetched from elsewhere."""

from html import escape

from serving.routes import PAGES, ROUTES, WATCHED

STYLE = """
body {font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1rem}
code {background: #8882; padding: .1rem .3rem; border-radius: .2rem}
td {padding: .15rem .8rem .15rem 0; vertical-align: top}
@media (prefers-color-scheme: dark) {body {background: #16181c; color: #e6e6e6} a {color: #8ab4f8}}
"""


def front_page(model: str) -> bytes:
    """HTML of the page."""
    rows = "".join(
        f"<tr><td><code>{route.method} {route.path}</code></td><td>{escape(route.does)}</td></tr>"
        for route in ROUTES.values()
    )
    links = "".join(
        f'<tr><td><a href="{path}"><code>{path}</code></a></td><td>{escape(does)}</td></tr>'
        for path, does in (PAGES | WATCHED).items()
        if path != "/"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Ostinato</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{STYLE}</style><h1>Ostinato</h1><p>Composes, edits, scores and recommends music. Model "
        f"<code>{escape(model)}</code>.</p><table>{rows}</table><h2>Also "
        f"here</h2><table>{links}</table></html>"
    ).encode()
