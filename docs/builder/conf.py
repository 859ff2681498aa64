"""Sphinx configuration of the documentation site: see build_site.py, which prepares the pages for it."""

from pathlib import Path

from steadyvoice import __version__

project = "steadyvoice"
release = __version__
html_title = "steadyvoice"

extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True

html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_use_index = False
html_search_scorer = str(Path(__file__).with_name("search_scores.js"))
# A summary of each result would be fetched, and a browser does not fetch files from the disk.
html_show_search_summary = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "native"
