"""Draws synthetic pictures of two hands with exact truth, with OpenGL 3.3 on a GPU or in software. Needs moderngl.

Hands and background are drawn apart and put together in linear light, the hands with their coverage multiplied
in: blurred or not, no edge is brighter than what lies on either side of it.
"""

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dir_core.camera import project
from dir_core.conventions import SIDES, Side
from dir_core.errors import RendererError
from dir_core.hand_model import HandModel
from dir_core.training import shaders
from dir_core.training.looks import MOST_SHAPES, SHAPE_FIELDS, Look, Pattern
from dir_core.training.surfaces import COLUMNS, SMALL_PICTURE, Scene, build_scene
from dir_core.training.two_hands import LEFT_ARM, LEFT_HAND, RIGHT_ARM, RIGHT_HAND, Picture, TwoHands

Array = NDArray[Any]

_SHADOW_SIZE = 256
_NOISE_SIZE = 32
# Surfaces are drawn this many times finer than the picture and averaged: smooth edges for less than multisampling.
_FINER, _SMALL_FINER = 1.34, 1.2
_SUB_FRAMES = 4
_STILL = 0.75  # pixels that a surface may move during the exposure before that is drawn
# A joint lies this far under its own skin at most, metres; of anything else even a hair in front hides it.
_OWN_DEPTH = np.full(21, 0.020)
_OWN_DEPTH[:2] = 0.035, 0.025  # the wrist and the thumb's root from the side
_OTHER_DEPTH = 0.003
_PATTERNS: dict[Pattern, int] = {"plain": 0, "stripes": 1, "checks": 2, "knit": 3}
_GRAIN_PLACES = 1 << 18
# Uniforms that a look sets, in whichever programs have them.
_OF_LOOK = (
    "light_count",
    "key_direction",
    "key_colour",
    "sky",
    "ground",
    "tone",
    "palm_tone",
    "nail_tone",
    "amounts",
    "gloss",
    "ring_finger",
    "ring_part",
    "ring_colour",
    "second_cloth",
    "pattern",
    "pattern_size",
    "seed",
    "shadow",
    "noise",
)
_LINEAR = (np.arange(256, dtype=np.float32) / 255.0) ** 2 * shaders.LIGHT_RANGE


class Renderer:
    """An OpenGL context and its programs; use it as a context manager, in the thread that made it.

    Raises:
        RendererError: moderngl is missing, or no context can be made.
    """

    def __init__(self) -> None:
        try:
            import moderngl
        except ImportError:
            raise RendererError("Pictures are drawn with moderngl, which is missing: pip install moderngl.") from None
        try:
            settings: dict[str, Any] = {"backend": "egl"}
            self._context: Any = moderngl.create_context(require=330, standalone=True, **settings)
        except Exception as error:  # moderngl and its loader raise bare Exception
            raise RendererError(
                f"No OpenGL 3.3 context can be made without a screen ({error}): install libegl1 and libgl1-mesa-dri."
            ) from error
        gl = self._context
        gl.front_face = "cw"  # rows of the picture go down where OpenGL's go up, which turns every face around
        self._gl = moderngl
        # Rows run down from the first, so what is counter-clockwise to the eye is clockwise to OpenGL.
        gl.front_face, gl.cull_face = "cw", "back"
        self._surfaces: tuple[Any, ...] = tuple(
            gl.program(shaders.SURFACE_VERTEX, fragment) for fragment in shaders.SURFACE_FRAGMENTS
        )
        self._lighting: Any = gl.program(shaders.LIGHT_VERTEX, varyings=tuple(shaders.BAKED))
        programs = (self._lighting, *self._surfaces)
        self._look_uniforms = [(each[name], name) for each in programs for name in _OF_LOOK if name in each]
        self._shadow: Any = gl.program(shaders.SHADOW_VERTEX, shaders.SHADOW_FRAGMENT)
        self._backdrop: Any = gl.program(shaders.BACKDROP_VERTEX, shaders.BACKDROP_FRAGMENT)
        self._shadow_map: Any = gl.depth_texture((_SHADOW_SIZE, _SHADOW_SIZE))
        self._shadow_map.compare_func = "<="
        self._shadow_map.repeat_x = self._shadow_map.repeat_y = False
        self._shadow_target: Any = gl.framebuffer(depth_attachment=self._shadow_map)
        self._noise: Any = gl.texture3d((_NOISE_SIZE,) * 3, 4, _smooth_noise().tobytes())
        self._noise.filter = (moderngl.LINEAR, moderngl.LINEAR)
        self._targets: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._vertices: Any = gl.buffer(reserve=1 << 20, dynamic=True)
        self._faces: Any = gl.buffer(reserve=1 << 18, dynamic=True)
        self._baked: Any = None
        self._backdrop_of: tuple[Look, tuple[int, int], Array] | None = None
        self._backdrop_array: Any = gl.vertex_array(self._backdrop, [])
        self._arrays: tuple[Any, Any, tuple[Any, ...]] | None = None

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back everything the context holds."""
        self._context.release()

    def draw(self, hands: TwoHands, frame: int, models: Mapping[Side, HandModel], look: Look) -> Picture:
        """The picture of one frame and its truth; the same arguments give the same picture."""
        scene = build_scene(hands, frame, models, look)
        size = hands.image_size
        light, parts, depth = self._draw_surfaces(scene, hands, look)
        for moved in self._during_exposure(scene, hands, frame, models, look):
            light = light + self._draw_surfaces(moved, hands, look)[0]
        light = light / light[..., 3].max() if light[..., 3].max() > 1.0 else light
        image = develop(light, self._draw_backdrop(look, size), look, frame)
        keypoints = np.stack(
            [
                models[side].pose_keypoints(
                    hands.rotation[frame : frame + 1, number],
                    hands.translation[frame : frame + 1, number],
                    hands.shape,
                    hands.scale,
                )[0]
                for number, side in enumerate(SIDES)
            ]
        )
        pixels = project(keypoints, hands.camera_matrix)
        return Picture(
            image=image,
            parts=parts,
            camera_matrix=hands.camera_matrix,
            keypoints_3d=keypoints.astype(np.float32),
            keypoints_2d=pixels.astype(np.float32),
            visible=_visible(pixels, keypoints[..., 2], parts, depth) & hands.present[:, None],
            present=np.array(hands.present, bool),
        )

    def _during_exposure(
        self, scene: Scene, hands: TwoHands, frame: int, models: Mapping[Side, HandModel], look: Look
    ) -> list[Scene]:
        """Further scenes on the way through an open shutter around `frame`; none where little moves."""
        if look.shot.shutter <= 0 or hands.frame_rate <= 0 or len(hands) < 2 or not len(scene.vertices):
            return []
        before = build_scene(hands, max(frame - 1, 0), models, look)
        after = build_scene(hands, min(frame + 1, len(hands) - 1), models, look)
        ends = [project(one.vertices[:, :3], hands.camera_matrix) for one in (before, after)]
        if look.shot.shutter * np.abs(ends[1] - ends[0]).max() / 2 < _STILL:
            return []
        scenes = []
        for share in np.linspace(-0.5, 0.5, _SUB_FRAMES) * look.shot.shutter:
            other = after if share > 0 else before
            mix = np.float32(abs(share))
            vertices = scene.vertices + mix * (other.vertices - scene.vertices)
            spheres = scene.spheres + mix * (other.spheres - scene.spheres)
            scenes.append(replace(scene, vertices=vertices, spheres=spheres))
        return scenes

    def _draw_surfaces(self, scene: Scene, hands: TwoHands, look: Look) -> tuple[Array, Array, Array]:
        """Light [H, W, 4] times coverage, parts [H, W] and depth [H, W] in metres, infinite where nothing is."""
        width, height = hands.image_size
        if not len(scene.faces):
            empty = np.zeros((height, width, 4), np.float32)
            return empty, np.zeros((height, width), np.uint8), np.full((height, width), np.inf, np.float32)
        gl = self._context
        lighting, shadow, surfaces = self._upload(scene)
        shadow_matrix = _shadow_matrix(scene, np.array(look.lights[0].direction))
        gl.enable_only(self._gl.DEPTH_TEST | self._gl.CULL_FACE)
        self._shadow_target.use()
        self._shadow_target.clear()
        self._shadow["shadow_matrix"].write(shadow_matrix)
        shadow.render(vertices=3 * scene.casting)

        target = self._target((width, height))
        target.use()
        target.clear()
        self._set_camera(hands.camera_matrix, hands.image_size)
        self._set_look(look)
        for program in self._surfaces:
            program["shadow_matrix"].write(shadow_matrix)
        spheres = np.zeros((shaders.MOST_SPHERES, 4), np.float32)
        count = min(len(scene.spheres), shaders.MOST_SPHERES)
        spheres[:count] = scene.spheres[:count]
        self._lighting["spheres"].write(spheres.tobytes())
        self._lighting["sphere_count"].value = count
        self._shadow_map.use(0)
        self._noise.use(1)
        lighting.transform(self._baked, self._gl.POINTS, vertices=len(scene.vertices))
        first = 0
        for surface, count in zip(surfaces, 3 * scene.counts, strict=True):
            if count:
                surface.render(vertices=count, first=first)
            first += count

        fine = target.size
        colour = np.frombuffer(target.read(components=4, alignment=1), np.uint8).reshape(fine[1], fine[0], 4)
        truth = np.frombuffer(target.read(components=2, attachment=1, dtype="u2", alignment=1), np.uint16)
        truth = truth.reshape(fine[1], fine[0], 2)
        # What is stored is a root s of light, zero where nothing is: s^2 / a is the light's mean times coverage a.
        small = cv2.resize(colour, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.float32)
        share = 1 / (255 * np.maximum(small[..., 3], 1))
        bright = shaders.LIGHT_RANGE * share
        light = cv2.multiply(cv2.multiply(small, small), cv2.merge([bright, bright, bright, share]))
        truth = cv2.resize(truth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        parts = truth[..., 0].astype(np.uint8)
        depth = np.where(truth[..., 1] == 0, np.float32(np.inf), truth[..., 1] * np.float32(shaders.DEPTH_STEP))
        return light, parts, depth

    def _upload(self, scene: Scene) -> tuple[Any, Any, tuple[Any, ...]]:
        """Put the surfaces where the programs read them; the arrays that run light, shadow and surface programs."""
        for name, data in (("_vertices", scene.vertices), ("_faces", scene.faces)):
            if 4 * data.size > getattr(self, name).size:
                getattr(self, name).release()
                setattr(self, name, self._context.buffer(reserve=8 * data.size, dynamic=True))
                self._arrays = None
        if self._arrays is None:
            gl = self._context
            self._baked = gl.buffer(reserve=self._vertices.size)  # fewer floats a vertex than what they are made of
            self._arrays = (
                gl.vertex_array(self._lighting, [_columns(self._lighting, self._vertices, COLUMNS)]),
                gl.vertex_array(self._shadow, [_columns(self._shadow, self._vertices, COLUMNS)], self._faces),
                tuple(
                    gl.vertex_array(
                        program,
                        [_columns(program, self._vertices, COLUMNS), _columns(program, self._baked, shaders.BAKED)],
                        self._faces,
                    )
                    for program in self._surfaces
                ),
            )
        self._vertices.write(scene.vertices.astype(np.float32))
        self._faces.write(scene.faces.astype(np.int32))
        return self._arrays

    def _target(self, size: tuple[int, int]) -> Any:
        if size not in self._targets:
            gl = self._context
            finer = _SMALL_FINER if max(size) <= SMALL_PICTURE else _FINER
            fine = (round(size[0] * finer), round(size[1] * finer))
            surfaces = gl.framebuffer(
                [gl.renderbuffer(fine, 4), gl.renderbuffer(fine, 2, dtype="u2")], gl.depth_renderbuffer(fine)
            )
            self._targets[size] = surfaces, gl.framebuffer([gl.renderbuffer(_coarser(size), 4)])
        return self._targets[size][0]

    def _set_camera(self, matrix: Array, size: tuple[int, int]) -> None:
        width, height = size
        across, down = (fine / whole for fine, whole in zip(self._target(size).size, size, strict=True))
        for program in self._surfaces:
            program["camera"].value = (
                2 * matrix[0, 0] / width,
                2 * matrix[1, 1] / height,
                2 * matrix[0, 2] / width - 1,
                2 * matrix[1, 2] / height - 1,
            )
            program["ray"].value = (
                1 / (across * matrix[0, 0]),
                1 / (down * matrix[1, 1]),
                -matrix[0, 2] / matrix[0, 0],
                -matrix[1, 2] / matrix[1, 1],
            )

    def _set_look(self, look: Look) -> None:
        skin = look.skin
        directions = np.zeros((shaders.MOST_LIGHTS, 3), np.float32)
        colours = np.zeros((shaders.MOST_LIGHTS, 3), np.float32)
        for number, light in enumerate(look.lights):
            directions[number], colours[number] = light.direction, light.colour
        self._lighting["light_direction"].write(directions.tobytes())
        self._lighting["light_colour"].write(colours.tobytes())
        sleeve = look.sleeve
        values: dict[str, Any] = {
            "light_count": len(look.lights),
            "key_direction": look.lights[0].direction,
            "key_colour": look.lights[0].colour,
            "sky": look.sky,
            "ground": look.ground,
            "tone": skin.tone,
            "palm_tone": skin.palm,
            "nail_tone": skin.nail,
            "amounts": (skin.mottling, skin.redness, skin.veins, skin.creases),
            "gloss": skin.gloss,
            "ring_finger": skin.ring,
            "ring_part": LEFT_HAND if skin.ring_side == "left" else RIGHT_HAND,
            "ring_colour": skin.ring_colour,
            "second_cloth": sleeve.second if sleeve else (0.0, 0.0, 0.0),
            "pattern": _PATTERNS[sleeve.pattern] if sleeve else 0,
            "pattern_size": sleeve.pattern_size if sleeve else 1.0,
            "seed": (look.seed % 1009) / 1009.0,
            "shadow": 0,
            "noise": 1,
        }
        for uniform, name in self._look_uniforms:
            uniform.value = values[name]

    def _draw_backdrop(self, look: Look, size: tuple[int, int]) -> Array:
        """Light [H, W, 3] behind the hands; kept while the look stays the same."""
        if self._backdrop_of is not None and self._backdrop_of[0] is look and self._backdrop_of[1] == size:
            return self._backdrop_of[2]
        self._target(size)
        target = self._targets[size][1]
        program, backdrop = self._backdrop, look.backdrop
        self._context.enable_only(self._gl.NOTHING)
        target.use()
        shapes = np.zeros((MOST_SHAPES, SHAPE_FIELDS), np.float32)
        shapes[: len(backdrop.shapes)] = backdrop.shapes.reshape(-1, SHAPE_FIELDS)
        program["shape_frame"].write(shapes[:, 0:4].tobytes())
        program["shape_axis"].write(np.stack([np.cos(shapes[:, 4]), np.sin(shapes[:, 4])], axis=1).tobytes())
        program["shape_edge"].write(shapes[:, [5, 6, 10]].tobytes())
        program["shape_colour"].write(shapes[:, [7, 8, 9, 11]].tobytes())
        program["shape_count"].value = len(backdrop.shapes)
        program["top"].value, program["bottom"].value = backdrop.top, backdrop.bottom
        program["grain"].value = backdrop.grain, backdrop.grain_scale, (look.seed % 2003) / 2003.0
        program["aspect"].value = size[0] / size[1]
        program["noise"].value = 1
        self._noise.use(1)
        self._backdrop_array.render(self._gl.TRIANGLES, vertices=3)
        width, height = target.size
        colour = np.frombuffer(target.read(components=3, alignment=1), np.uint8).reshape(height, width, 3)
        light = cv2.LUT(colour, _LINEAR)
        radius = look.shot.distance_blur * height
        if radius > 0.3:
            light = cv2.GaussianBlur(light, (0, 0), radius, borderType=cv2.BORDER_REPLICATE)
        light = cv2.resize(light, size, interpolation=cv2.INTER_LINEAR)
        self._backdrop_of = (look, size, light)
        return light


def _columns(program: Any, buffer: Any, columns: Mapping[str, int]) -> tuple[Any, ...]:
    """How a program reads the columns it uses of a buffer's rows."""
    used = [name for name in columns if f"in_{name}" in program]
    layout = " ".join(f"{count}f" if name in used else f"{4 * count}x" for name, count in columns.items())
    return buffer, layout, *(f"in_{name}" for name in used)


def _coarser(size: tuple[int, int]) -> tuple[int, int]:
    """The size that a background is drawn in: it is soft, a part of the picture's is enough."""
    part = 3 if max(size) <= SMALL_PICTURE else 2
    return -(-size[0] // part), -(-size[1] // part)


def develop(light: Array, behind: Array, look: Look, frame: int) -> Array:
    """The camera's picture [H, W, 3] uint8 of light times coverage [H, W, 4] before a background [H, W, 3]."""
    shot = look.shot
    height = light.shape[0]
    smear = np.array(shot.smear) * height
    if np.hypot(*smear) > 1.0:
        light = cv2.filter2D(light, -1, _line_kernel(smear), borderType=cv2.BORDER_REPLICATE)
    uncovered = cv2.cvtColor(1.0 - light[..., 3], cv2.COLOR_GRAY2RGB)
    light = cv2.add(cv2.cvtColor(light, cv2.COLOR_RGBA2RGB), cv2.multiply(uncovered, behind))
    radius = shot.defocus * height
    if radius > 0.3:
        light = cv2.GaussianBlur(light, (0, 0), radius, borderType=cv2.BORDER_REPLICATE)
    # Saturation and exposure in one matrix; then a table in 4096 steps.
    colours = shot.saturation * np.eye(3) + (1 - shot.saturation) * np.array([0.2126, 0.7152, 0.0722])
    light = cv2.transform(light, colours * (shot.exposure / shaders.LIGHT_RANGE * (len(_UNIT) - 1)))
    steps = np.clip(light, 0, len(_UNIT) - 1, out=light).astype(np.uint16)
    values = np.take(_tone_curve(shot.contrast), steps)
    if shot.noise > 0:
        # A piece of a kept field of noise, from a place that chance chooses: drawing a new one is slow.
        start = int(np.random.default_rng([look.seed, frame]).integers(_GRAIN_PLACES))
        grain = _grain_field(values.size)[start : start + values.size].reshape(values.shape)
        values = cv2.scaleAdd(grain, shot.noise * 255.0, values)
    image = cv2.add(values, 0.0, dtype=cv2.CV_8U)  # rounds and clips
    if shot.quality:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, shot.quality])[1]
        image = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return image


_UNIT = np.linspace(0.0, 1.0, 4096, dtype=np.float32)


def _tone_curve(contrast: float) -> Array:
    """Values 0..255 of _UNIT * LIGHT_RANGE linear light: sRGB below, a shoulder instead of a hard white above."""
    x = _UNIT * shaders.LIGHT_RANGE
    knee = 0.6
    x = np.where(x < knee, x, knee + (1 - knee) * (1 - np.exp(-(x - knee) / (1 - knee))))
    srgb = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)
    return (255.0 * np.clip(0.5 + contrast * (srgb - 0.5), 0, 1)).astype(np.float32)


@functools.cache
def _grain_field(count: int) -> Array:
    """Noise of unit deviation, long enough for pictures of `count` values."""
    return np.random.default_rng(5).standard_normal(count + _GRAIN_PLACES, dtype=np.float32)


def _line_kernel(smear: Array) -> Array:
    """A kernel that averages along a line of pixels."""
    half = int(np.ceil(np.abs(smear).max() / 2)) + 1
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    start, end = ((half + sign * smear / 2) * 16 for sign in (-1, 1))
    first, last = (tuple(round(value) for value in point) for point in (start, end))
    cv2.line(kernel, first, last, 1.0, 1, cv2.LINE_AA, 4)
    return kernel / kernel.sum()


def _visible(pixels: Array, depths: Array, parts: Array, depth: Array) -> Array:
    """[2, 21]: nothing but its own hand's skin lies before a key point, and that no thicker than a finger's half."""
    height, width = parts.shape
    column, row = (np.floor(pixels[..., axis]).astype(np.intp) for axis in (0, 1))
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (depths > 0)
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    seen, shown = depth[row, column], parts[row, column]
    own = np.stack([np.isin(shown[0], (LEFT_HAND, LEFT_ARM)), np.isin(shown[1], (RIGHT_HAND, RIGHT_ARM))])
    return inside & (seen >= depths - np.where(own, _OWN_DEPTH, _OTHER_DEPTH))


def _shadow_matrix(scene: Scene, towards: Array) -> bytes:
    """Camera axes to shadow map 0..1 around all surfaces, seen from a far light; column-major float32."""
    helper = np.array([1.0, 0.0, 0.0]) if abs(towards[1]) > 0.7 else np.array([0.0, 1.0, 0.0])
    x = np.cross(helper, towards)
    x /= np.linalg.norm(x)
    # Rows: across, down, and away from the light.
    axes = np.stack([x, np.cross(-towards, x), -towards]).astype(np.float32)
    # Across, the map holds what the spheres fill and a rim: shadows far up the sleeves do not matter.
    points = scene.vertices[:, :3]
    filled = (scene.spheres[:, :3] if len(scene.spheres) else points) @ axes.T
    away = points @ axes[2]
    low = np.append(filled[:, :2].min(axis=0) - 0.05, away.min() - 0.01)
    high = np.append(filled[:, :2].max(axis=0) + 0.05, away.max() + 0.01)
    matrix = np.eye(4, dtype=np.float32)
    matrix[:3, :3] = axes / (high - low)[:, None]
    matrix[:3, 3] = -low / (high - low)
    return matrix.T.astype(np.float32).tobytes()


def _smooth_noise() -> Array:
    """Four channels of noise [32, 32, 32, 4] uint8 that repeat, full range around the middle."""
    values = np.random.default_rng(3).random((_NOISE_SIZE,) * 3 + (4,))
    return (values * 255).astype(np.uint8)
