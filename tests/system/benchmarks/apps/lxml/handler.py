"""Finds the links and the table of a page, and writes them as XML."""

import lxml.html
from lxml import etree


def handler(event, context):
    page = lxml.html.fromstring(event["page"])
    page.make_links_absolute("https://example.com/")
    found = etree.Element("found")
    for link in page.cssselect("a") if event.get("css") else page.xpath("//a[@href]"):
        etree.SubElement(found, "link", to=link.get("href")).text = link.text_content()
    for row in page.iter("tr"):
        etree.SubElement(found, "row").text = ",".join(cell.text_content() for cell in row)
    return etree.tostring(found, pretty_print=True, encoding="unicode")
