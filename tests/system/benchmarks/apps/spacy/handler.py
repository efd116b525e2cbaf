"""Splits texts into sentences, and finds names and phrases by rules; needs no trained pipeline."""

import spacy
from spacy.matcher import Matcher

nlp = spacy.blank("en")
nlp.add_pipe("sentencizer")
nlp.add_pipe("entity_ruler").add_patterns(
    [
        {"label": "CITY", "pattern": [{"LOWER": {"IN": ["berlin", "lisbon", "oslo"]}}]},
        {"label": "ORG", "pattern": "Acme"},
    ]
)
matcher = Matcher(nlp.vocab)
matcher.add("PRICE", [[{"LIKE_NUM": True}, {"LOWER": {"IN": ["euro", "euros", "dollars"]}}]])


def handler(event, context):
    text = nlp(event["text"])
    found = {
        "sentences": [len(sentence) for sentence in text.sents],
        "names": [[name.text, name.label_] for name in text.ents],
        "prices": [text[start:end].text for _, start, end in matcher(text)],
        "words": [token.norm_ for token in text if token.is_alpha and not token.is_stop],
    }
    if "language" in event:
        found["other"] = [token.text for token in spacy.blank(event["language"])(event["text"])]
    return found
