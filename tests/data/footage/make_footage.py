"""Remakes the tiny clips of this folder with the ffmpeg command. Run it by hand; the tests only read the results.

Each picture of a clip carries its number as a bar code: the top strip holds eight cells, black for 0 and white for
1, lowest bit left. The rest is grey, with a white block at the top left under the strip to tell which way is up.
"""

import subprocess
from pathlib import Path

import cv2
import numpy as np

HERE = Path(__file__).parent
X264 = ("-c:v", "libx264", "-preset", "veryslow", "-crf", "30", "-pix_fmt", "yuv420p")


def draw_frame(number: int, width: int, height: int) -> np.ndarray:
    """One picture [height, width, 3] uint8."""
    image = np.full((height, width, 3), 110, np.uint8)
    strip = height // 4
    for bit in range(8):
        left, right = bit * width // 8, (bit + 1) * width // 8
        image[:strip, left:right] = 255 * (number >> bit & 1)
    image[strip : 2 * strip, : width // 4] = 255
    return image


def encode(name: str, count: int, *options: str, size: tuple[int, int] = (64, 48), rate: str = "25") -> None:
    """Feed `count` pictures to ffmpeg."""
    width, height = size
    pictures = b"".join(draw_frame(number, width, height).tobytes() for number in range(count))
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", "-")
    command = ["ffmpeg", "-v", "error", "-y", *source, *options, "-fflags", "+bitexact", str(HERE / name)]
    subprocess.run(command, input=pictures, check=True)


def run(*options: str) -> None:
    """Call ffmpeg in this folder."""
    subprocess.run(["ffmpeg", "-v", "error", "-y", *options], check=True, cwd=HERE)


def main() -> None:
    """Make every clip."""
    encode("constant_25.mp4", 25, *X264, "-bf", "0")
    encode("ntsc_2997.mp4", 30, *X264, "-bf", "0", rate="30000/1001")
    encode("one_frame.mp4", 1, *X264)
    # Frames at 0, 40, 80 ms .. and, from number 10 on, only every third: what phones do in the dark.
    variable = ("-vf", "settb=1/1000,setpts='if(lt(N,10),N*40,400+(N-10)*120)'", "-fps_mode", "passthrough")
    encode("variable_rate.mp4", 20, *variable, *X264, "-bf", "0", "-video_track_timescale", "1000")
    # B-frames, and a stream that starts 0.5 s after the clock of the file.
    shift = ("-vf", "settb=1/12800,setpts=PTS+6400", "-fps_mode", "passthrough")
    encode("b_frames_late_start.mp4", 30, *shift, *X264, "-bf", "3", "-x264-params", "b-adapt=0:bframes=3")
    encode("b_frames_late_start.mkv", 30, *shift, *X264, "-bf", "3", "-x264-params", "b-adapt=0:bframes=3")
    encode("odd_size.mp4", 5, *X264[:-1], "yuv444p", size=(67, 49))
    encode("upright_source.mp4", 8, *X264, "-bf", "0")
    # Stored lying, to be shown turned by 90 degrees.
    run("-i", "upright_source.mp4", "-c", "copy", "-metadata:s:v", "rotate=90", "rotated_90.mp4")
    (HERE / "upright_source.mp4").unlink()
    run("-f", "lavfi", "-i", "sine=duration=0.3", "-c:a", "aac", "-b:a", "16k", "audio_only.m4a")
    # The index stands in front, so the file opens, but the second half of its pictures is gone.
    encode("whole.mp4", 60, *X264, "-bf", "0", "-g", "1", "-movflags", "+faststart")
    data = (HERE / "whole.mp4").read_bytes()
    (HERE / "truncated_index_first.mp4").write_bytes(data[: len(data) * 6 // 10])
    # The index stands at the end and is gone: nothing can be read.
    data = (HERE / "constant_25.mp4").read_bytes()
    (HERE / "truncated_index_lost.mp4").write_bytes(data[: len(data) // 2])
    (HERE / "whole.mp4").unlink()
    folder = HERE / "sequence"
    folder.mkdir(exist_ok=True)
    for number in range(1, 7):
        cv2.imwrite(str(folder / f"shot_{number:04d}.png"), draw_frame(number, 32, 24)[..., ::-1])


if __name__ == "__main__":
    main()
