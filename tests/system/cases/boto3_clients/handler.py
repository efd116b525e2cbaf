"""Talks to services of AWS through boto3, whose knowledge of each is a file; an endpoint that runs here answers."""

import http.server
import threading

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ANSWERS = {
    "s3": (
        "application/xml",
        """<ListBucketResult><Name>orders</Name><IsTruncated>false</IsTruncated><KeyCount>1</KeyCount>
        <Contents><Key>a.csv</Key><Size>3</Size></Contents></ListBucketResult>""",
    ),
    "dynamodb": ("application/x-amz-json-1.0", '{"Item": {"id": {"S": "7"}, "count": {"N": "3"}}}'),
    "sqs": (
        "application/x-amz-json-1.0",
        '{"MessageId": "m-1", "MD5OfMessageBody": "5d41402abc4b2a76b9719d911017c592"}',
    ),
    "sts": (
        "text/xml",
        """<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
        <Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>""",
    ),
    "refused": ("application/xml", "<Error><Code>AccessDenied</Code><Message>not yours</Message></Error>"),
}


class _Endpoint(http.server.BaseHTTPRequestHandler):
    answer = "s3"

    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind, text = ANSWERS[self.answer]
        self.send_response(403 if self.answer == "refused" else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET

    def log_message(self, *_arguments):
        pass


def _ask(client, service):
    if service == "s3":
        return [found["Key"] for found in client.list_objects_v2(Bucket="orders")["Contents"]]
    if service == "dynamodb":
        return client.get_item(TableName="orders", Key={"id": {"S": "7"}})["Item"]
    if service == "sqs":
        return client.send_message(QueueUrl="https://sqs.example/1/orders", MessageBody="hello")["MessageId"]
    return client.get_caller_identity()["Account"]


def handler(event, context):
    answer = type("Endpoint", (_Endpoint,), {"answer": event.get("answer", event["service"])})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        client = boto3.client(
            event["service"],
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            region_name="eu-central-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )
        if event.get("ask") == "presigned":
            url = client.generate_presigned_url("get_object", Params={"Bucket": "orders", "Key": "a.csv"})
            return sorted(part.partition("=")[0] for part in url.partition("?")[2].split("&"))
        if event.get("ask") == "paginator":
            pages = client.get_paginator("list_objects_v2").paginate(Bucket="orders")
            return [page["KeyCount"] for page in pages]
        return _ask(client, event["service"])
    except ClientError as error:
        return error.response["Error"]["Code"]
    finally:
        server.shutdown()
        server.server_close()
