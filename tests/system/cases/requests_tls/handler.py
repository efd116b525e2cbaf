"""Fetches over TLS with the requests package; the server runs here, with a certificate of its own authority."""

import http.server
import os
import ssl
import threading

import certifi
import requests

HERE = os.path.dirname(os.path.abspath(__file__))


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/page")
            self.end_headers()
            return
        body = b'{"path": "%s"}' % self.path.encode()
        self.send_response(200 if self.path != "/gone" else 410)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments):
        pass


def handler(event, context):
    server = http.server.HTTPServer(("127.0.0.1", 0), _Page)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(os.path.join(HERE, "localhost.pem"))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://localhost:{server.server_port}{event['path']}"
    trusted = certifi.where() if event.get("strangers") else os.path.join(HERE, "localhost.pem")
    try:
        with requests.Session() as session:
            answer = session.get(url, verify=trusted, timeout=10, auth=event.get("auth") and tuple(event["auth"]))
            if event.get("raise"):
                answer.raise_for_status()
            return {"status": answer.status_code, "json": answer.json(), "hops": len(answer.history)}
    except requests.exceptions.SSLError:
        return "not trusted"
    except requests.exceptions.HTTPError as error:
        return str(error).partition(" for url")[0]
    finally:
        server.shutdown()
        server.server_close()
