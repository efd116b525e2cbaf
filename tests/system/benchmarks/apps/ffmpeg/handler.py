"""Writes the command line that cuts, turns and labels a film; ffmpeg itself is not run."""

import ffmpeg


def handler(event, context):
    film = ffmpeg.input(event["file"])
    parts = [film.trim(start_frame=start, end_frame=end) for start, end in event["parts"]]
    joined = ffmpeg.concat(*parts)
    if event.get("flip"):
        joined = joined.hflip()
    for text in event.get("texts", ()):
        joined = joined.drawtext(text, x=10, y=10)
    return ffmpeg.output(joined, event["to"], **event.get("options", {})).overwrite_output().compile()
