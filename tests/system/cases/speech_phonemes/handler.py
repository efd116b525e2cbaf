"""Turns text into phonemes; code in C composes the names of the languages' files."""

import ctypes

import espeakng_loader

speech = ctypes.CDLL(espeakng_loader.get_library_path())
speech.espeak_TextToPhonemes.restype = ctypes.c_char_p
speech.espeak_Initialize(2, 0, espeakng_loader.get_data_path().encode(), 0)


def handler(event, context):
    known = speech.espeak_SetVoiceByName(event["voice"].encode())
    text = ctypes.pointer(ctypes.c_char_p(event["text"].encode()))
    return [known, speech.espeak_TextToPhonemes(text, 1, 2).decode()]
