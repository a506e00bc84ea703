"""What open pages count of an event stream, wherever it is cut."""

import socket
import threading

import pytest

from benchmarks.open_pages import FRAME, OpenPage

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
BEAT = b"event: beat\ndata: 1\n\n"
FRAMES = [b'{"html":{"a":"1"}}', b'{"html":{"a":"22"}}']


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_frames_are_counted_with_their_bytes(cut: int):
    stream = HEAD + FRAME + FRAMES[0] + b"\n\n" + BEAT + FRAME + FRAMES[1] + b"\n\n" + BEAT + FRAME
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close())
        thread.start()
        page = OpenPage(f"http://127.0.0.1:{server.getsockname()[1]}", "chat")
        thread.join()
    for start in range(0, len(stream), cut):
        page.take(stream[start : start + cut])
    assert (page.frames, page.frame_bytes) == (2, sum(map(len, FRAMES)))
    assert page.largest_frame_bytes == len(FRAMES[1])
