"""Converts a text in Markdown to HTML."""

import markdown


def handler(event, context):
    converter = markdown.Markdown(extensions=["tables", "toc", "fenced_code"])
    html = converter.convert(event["text"])
    return {"html": html, "contents": converter.toc_tokens}
