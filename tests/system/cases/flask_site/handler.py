"""A small Flask site behind an HTTP API: pages from templates, a form that answers JSON, a style sheet."""

import base64
import io

from flask import Flask, jsonify, render_template, request

app = Flask(__name__)


@app.get("/hello/<name>")
def hello(name):
    return render_template("hello.html", name=name, items=["one", "two"])


@app.get("/about")
def about():
    return render_template("about.html")


@app.post("/sum")
def total():
    return jsonify(total=sum(request.get_json()["numbers"]))


@app.errorhandler(404)
def missing(_error):
    return jsonify(error="not found"), 404


def handler(event, context):
    body = event.get("body") or ""
    raw = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    environ = {
        "REQUEST_METHOD": event["requestContext"]["http"]["method"],
        "PATH_INFO": event["rawPath"],
        "QUERY_STRING": event["rawQueryString"],
        "SERVER_NAME": "example.test",
        "SERVER_PORT": "443",
        "CONTENT_TYPE": event["headers"].get("content-type", ""),
        "CONTENT_LENGTH": str(len(raw)),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(raw),
        "wsgi.errors": io.StringIO(),
        "wsgi.version": (1, 0),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": True,
    }
    answer = {}

    def start_response(status, headers, exc_info=None):
        answer["statusCode"] = int(status.split()[0])
        answer["type"] = dict(headers).get("Content-Type")

    answer["body"] = b"".join(app(environ, start_response)).decode()
    return answer
