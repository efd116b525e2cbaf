"""Returns the sentiment of texts, and corrects and inflects words; needs none of NLTK's corpora."""

from textblob import TextBlob, Word


def handler(event, context):
    moods = [TextBlob(text).sentiment for text in event["texts"]]
    words = [Word(word) for word in event["words"]]
    return {
        "moods": [[round(mood.polarity, 6), round(mood.subjectivity, 6)] for mood in moods],
        "corrected": [word.spellcheck()[0][0] for word in words],
        "plural": [word.pluralize() for word in words],
    }
