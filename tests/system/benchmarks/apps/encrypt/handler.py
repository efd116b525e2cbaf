"""Encrypts a message with a key from a password, signs it, and decrypts it again."""

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC


def handler(event, context):
    salt = bytes.fromhex(event["salt"])
    key = PBKDF2HMAC(hashes.SHA256(), 32, salt, event["rounds"]).derive(event["password"].encode())
    secret = AESGCM(key).encrypt(salt[:12], event["message"].encode(), None)
    signature = hmac.HMAC(key, hashes.SHA256())
    signature.update(secret)
    again = AESGCM(key).decrypt(salt[:12], secret, None).decode()
    return {"secret": secret.hex(), "signature": signature.finalize().hex(), "same": again == event["message"]}
