"""Writes a book as EPUB, reads it, and writes its text as PDF; the client is that of the bucket it would go to."""

import os
import tempfile

import boto3
import lxml.html
from ebooklib import ITEM_DOCUMENT, epub
from reportlab.lib.pagesizes import A5
from reportlab.pdfgen.canvas import Canvas

bucket = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="none", aws_secret_access_key="none")


def handler(event, context):
    book = epub.EpubBook()
    book.set_title(event["title"])
    for number, text in enumerate(event["chapters"]):
        page = epub.EpubHtml(title=f"Chapter {number}", file_name=f"{number}.xhtml")
        page.content = f"<h1>Chapter {number}</h1><p>{text}</p>"
        book.add_item(page)
        book.spine.append(page)
    book.add_item(epub.EpubNcx())
    book.add_item(epub.EpubNav())
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "book.epub")
        epub.write_epub(file, book)
        pages = [page for page in epub.read_epub(file).get_items_of_type(ITEM_DOCUMENT) if page.id != "nav"]
    canvas = Canvas("book.pdf", pagesize=A5, invariant=1)
    texts = [lxml.html.fromstring(page.get_content()).text_content() for page in pages]
    for text in texts:
        canvas.drawString(40, 500, text.strip()[:60])
        canvas.showPage()
    url = bucket.generate_presigned_url("put_object", {"Bucket": "books", "Key": f"{event['title']}.pdf"})
    return {"texts": texts, "size": len(canvas.getpdfdata()), "url": url.split("?")[0]}
