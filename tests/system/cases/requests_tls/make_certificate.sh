#!/usr/bin/env bash
# Makes the server's key and certificate beside the handler.
set -euo pipefail
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
    -keyout "$1/key.pem" -out "$1/cert.pem" 2>/dev/null
cat "$1/key.pem" "$1/cert.pem" >"$1/localhost.pem"
rm "$1/key.pem" "$1/cert.pem"
