"""Shader programs of the renderer, GLSL 3.30. Axes are the camera's; the picture's first row is written first."""

from typing import Final

from dir_core.training.looks import MOST_SHAPES
from dir_core.training.surfaces import CLOTH, HAND, PLAIN, SKIN

MOST_SPHERES: Final = 128
MOST_LIGHTS: Final = 3

LIGHT_RANGE: Final = 4.0
"""Colours are stored as the square root of linear light divided by this: 8 bits then reach past white."""

DEPTH_STEP: Final = 1e-4
"""Metres of a step of the stored distance along the camera's axis."""

BAKED: Final = {"albedo": 3, "soft_light": 3, "skin": 3}
"""Floats that LIGHT_VERTEX writes for a vertex; `skin` is how palm-like it is, jitter of creases, shine."""

LIGHT_VERTEX: Final = f"""#version 330
in vec3 in_position, in_normal, in_rest;
in vec4 in_finger, in_colour;
in vec2 in_kind;
uniform vec4 spheres[{MOST_SPHERES}];
uniform int sphere_count;
uniform sampler3D noise;
uniform vec3 light_direction[{MOST_LIGHTS}], light_colour[{MOST_LIGHTS}];
uniform int light_count;
uniform vec3 sky, ground, tone, palm_tone;
uniform vec4 amounts;         // mottling, redness, veins, creases
uniform float seed, gloss;
out vec3 albedo, soft_light, skin;  // soft light: all but the first light

// About exp(-(distance / width)^2), for a few products.
float line(float distance, float width) {{
    float x = 0.5 * distance / width;
    float y = max(1.0 - x * x, 0.0);
    return y * y * y * y;
}}

void main() {{
    vec3 eye = normalize(-in_position);
    vec3 coarse = textureLod(noise, in_rest * 3.1 + seed * 1.7, 0.0).rgb - 0.5;
    vec3 middle = textureLod(noise, in_rest * 9.0 - seed, 0.0).rgb - 0.5;
    float palmar = 0.0, shine = 0.6 * in_colour.a;
    vec3 wrap = vec3(0.1);
    albedo = in_colour.rgb;
    if (in_kind.y <= {SKIN}.0) {{
        palmar = smoothstep(-0.15, 0.55, -in_finger.z + 0.25 * coarse.g);
        float on_finger = smoothstep(-0.1, 0.15, in_finger.y);
        albedo = mix(tone, palm_tone, palmar * (1.0 - 0.7 * smoothstep(-0.005, 0.05, in_rest.x)));
        albedo *= 1.0 + amounts.x * (0.30 * coarse.r * vec3(0.5, 1.0, 1.0) + 0.28 * middle.g * vec3(0.6, 1.0, 0.9));
        // Blood near the surface: knuckles, finger tips, heels of the palm.
        float joint = max(line(in_finger.y, 0.22), max(line(in_finger.y - 1.0, 0.16), line(in_finger.y - 2.0, 0.16)));
        float blood = (1.0 - palmar) * joint * 0.8 + smoothstep(2.3, 3.0, in_finger.y) * 0.7
            + palmar * (1.0 - on_finger) * clamp(coarse.b * 2.5, 0.0, 1.0);
        albedo *= 1.0 - amounts.y * blood * vec3(-0.06, 0.20, 0.16);
        // Veins on the back of the hand and the forearm.
        float vein = textureLod(noise, in_rest * vec3(0.9, 1.0, 2.2) + seed * 0.6, 0.0).g - 0.5;
        float back = (1.0 - palmar) * (1.0 - on_finger);
        albedo *= 1.0 - amounts.z * back * line(vein, 0.05) * vec3(0.16, 0.07, 0.03);
        wrap = vec3(0.42, 0.22, 0.16);
        shine = 0.13 * gloss;
    }}
    // The share of the sky that spheres over the surface leave open (the form factor of a sphere).
    float openness = 1.0;
    for (int i = 0; i < sphere_count; i++) {{
        vec3 away = spheres[i].xyz - in_position;
        float far = dot(away, away);
        float height = dot(away, in_normal) * inversesqrt(far);
        openness *= 1.0 - clamp(height, 0.0, 1.0) * min(spheres[i].w * spheres[i].w / far, 1.0);
    }}
    openness = 0.15 + 0.85 * openness;
    // Where the sky is closed off, light bounces between surfaces of like colour: skin in gaps glows red.
    vec3 open = vec3(openness) + (1.0 - openness) * albedo * vec3(0.5, 0.3, 0.25);
    float rim = 1.0 - max(dot(in_normal, eye), 0.0);
    soft_light = mix(ground, sky, 0.5 - 0.5 * in_normal.y) * open + 0.15 * shine * sky * openness * rim * rim * rim;
    for (int i = 1; i < light_count; i++)
        soft_light += light_colour[i] * max((dot(in_normal, light_direction[i]) + wrap) / (1.0 + wrap), 0.0)
            * mix(1.0, openness, 0.7);
    skin = vec3(palmar, middle.r, shine);
}}
"""

SURFACE_VERTEX: Final = """#version 330
in vec3 in_position, in_normal, in_rest, in_albedo, in_soft_light, in_skin;
in vec4 in_finger;
in vec2 in_kind;
uniform vec4 camera;          // x, y: clip units per x/z and y/z; z, w: shift
uniform mat4 shadow_matrix;   // camera axes to the shadow map, 0..1
out vec4 normal;              // w: how palm-like the skin is
out vec4 rest;                // w: jitter of creases
out vec4 on_shadow;           // w: shine
out vec4 finger;
out vec3 albedo, soft_light;
flat out float part;
const float NEAR = 0.05, FAR = 6.0;

void main() {
    normal = vec4(in_normal, in_skin.x);
    rest = vec4(in_rest, in_skin.y);
    on_shadow = vec4((shadow_matrix * vec4(in_position + 0.002 * in_normal, 1.0)).xyz, in_skin.z);
    finger = in_finger;
    part = in_kind.x;
    albedo = in_albedo;
    soft_light = in_soft_light;
    float z = in_position.z;
    gl_Position = vec4(camera.x * in_position.x + camera.z * z, camera.y * in_position.y + camera.w * z,
                       ((FAR + NEAR) * z - 2.0 * FAR * NEAR) / (FAR - NEAR), z);
}
"""

_SURFACE_FRAGMENT: Final = f"""
in vec4 normal, rest, on_shadow, finger;
in vec3 albedo, soft_light;
flat in float part;
uniform sampler3D noise;
uniform sampler2DShadow shadow;
uniform vec4 ray;             // x/z and y/z of a fragment: scale and shift
uniform vec3 key_direction, key_colour;
uniform vec3 nail_tone, ring_colour, second_cloth;
uniform vec4 amounts;
uniform float pattern_size, seed;
uniform int ring_finger, ring_part, pattern;
layout(location = 0) out vec4 out_colour;
layout(location = 1) out uvec2 out_truth;

// About exp(-(distance / width)^2), for a few products.
float line(float distance, float width) {{
    float x = 0.5 * distance / width;
    float y = max(1.0 - x * x, 0.0);
    return y * y * y * y;
}}

// A crease of the palm: near `p`, where the curve z = a + b x + c x^2 runs, between two ends.
float crease(vec2 p, vec3 curve, vec2 ends) {{
    float d = p.y - (curve.x + curve.y * p.x + curve.z * p.x * p.x);
    float slope = curve.y + 2.0 * curve.z * p.x;
    return line(d * inversesqrt(1.0 + slope * slope), 0.0009)
        * smoothstep(ends.x - 0.006, ends.x + 0.006, p.x) * (1.0 - smoothstep(ends.y - 0.006, ends.y + 0.006, p.x));
}}

void main() {{
    float z = 1.0 / gl_FragCoord.w;
    vec3 eye = -normalize(vec3(gl_FragCoord.xy * ray.xy + ray.zw, 1.0));
    vec3 n = normalize(normal.xyz);
    vec3 smooth_normal = n, colour = albedo, wrap = vec3(0.1);
    float shine = on_shadow.w, sharpness = 45.0;
#if MATERIAL < {PLAIN}
    vec3 fine = textureLod(noise, rest.xyz * 26.0 + seed, 0.0).rgb - 0.5;
#endif
#if MATERIAL <= {SKIN}
    {{
        float creases = 0.0;
#if MATERIAL == {HAND}
        float palmar = normal.w, jitter = 0.05 * rest.w;
        // Creases: on the inside at each finger joint and across the palm, on the outside folds over the joints.
        float along = finger.y + jitter;
        if (palmar > 0.02 && finger.w > -0.5) {{
            float fingers = line(along - 1.0, 0.03) + line(along - 2.0, 0.035) + line(along - 0.45, 0.022)
                + 0.6 * line(along - 1.1, 0.022);
            vec2 p = rest.xz + 0.006 * rest.w;
            float lines = crease(p, vec3(-0.030, -0.55, 3.2), vec2(-0.083, -0.042))
                + crease(p, vec3(0.068, 1.1, 2.2), vec2(-0.076, -0.030))
                + crease(p, vec3(0.0145, 0.10, 4.2), vec2(-0.070, -0.012)) + 0.6 * line(rest.x - 0.006, 0.0012);
            creases = palmar * (fingers + lines * (1.0 - smoothstep(-0.1, 0.15, finger.y)));
        }} else if (finger.z > 0.3) {{
            float wave = abs(fract((finger.y + 0.6 * jitter) * 12.0) * 2.0 - 1.0);  // smooth: about a cosine's
            creases = 0.7 * wave * wave * (3.0 - 2.0 * wave) * smoothstep(0.3, 0.9, finger.z)
                * max(line(finger.y - 1.0, 0.13), 0.7 * line(finger.y - 2.0, 0.09));
        }}
#endif
        colour *= (1.0 + 0.22 * amounts.x * fine.b) * (1.0 - amounts.w * min(creases, 1.0) * vec3(0.34, 0.42, 0.42));
        n = normalize(n + fine * (0.16 + amounts.w * (0.32 + 0.5 * creases)));
        wrap = vec3(0.42, 0.22, 0.16);
        sharpness = 14.0;
#if MATERIAL == {HAND}
        if (finger.y > 2.2 && finger.z > 0.0) {{
            // Nails: a rounded plate on the back of the last bone, a pale moon at its root, a pale free edge.
            vec2 plate = vec2(finger.x / 0.70, (finger.y - 2.70) / 0.27);
            float radius = length(max(abs(plate) - 0.35, 0.0)) / 0.65;
            float upper = smoothstep(0.05, 0.2, finger.z);
            float nail = (1.0 - smoothstep(0.92, 1.04, radius)) * upper;
            float moon = 1.0 - smoothstep(0.3, 0.5, length(plate - vec2(0.0, -1.0)));
            vec3 nail_colour = nail_tone * (1.0 + 0.25 * smoothstep(0.62, 0.85, plate.y) + 0.12 * moon);
            colour = mix(colour * (1.0 - 0.35 * upper * line(radius - 1.02, 0.14)), nail_colour, nail);
            n = normalize(mix(n, smooth_normal, nail));
            shine = mix(shine, 0.30, nail);
            sharpness = mix(sharpness, 55.0, nail);
        }}
        if (int(part) == ring_part && abs(finger.w - float(ring_finger)) < 0.05) {{
            float band = 1.0 - smoothstep(0.055, 0.065, abs(finger.y - 0.62));
            colour = mix(colour, ring_colour, band);
            shine = mix(shine, 1.2, band);
            sharpness = mix(sharpness, 40.0, band);
            wrap *= 1.0 - band;
        }}
#endif
    }}
#elif MATERIAL == {CLOTH}
    {{
        vec2 q = rest.xz / pattern_size;
        float mark = 0.0;
        if (pattern == 1) mark = smoothstep(0.35, 0.45, abs(fract(q.x) - 0.5) * 2.0 - 0.1);
        if (pattern == 2) mark = 0.5 * step(0.5, fract(q.x)) + 0.5 * step(0.5, fract(q.y));
        if (pattern == 3) mark = 0.35 * (0.5 + 0.5 * sin(q.x * 25.0)) * (0.5 + 0.5 * sin(q.y * 25.0));
        colour = mix(colour, second_cloth, mark) * (1.0 + 0.35 * fine.g);
        n = normalize(n + 0.5 * fine.gbr + 0.4 * rest.w);
    }}
#endif
    vec3 towards = key_direction;
    float facing = dot(n, towards);
    vec3 lit = vec3(0.0);
    if (facing > -0.42) {{
        float reach = 0.5 * (texture(shadow, on_shadow.xyz + vec3(0.0015, 0.0006, 0.0))
                             + texture(shadow, on_shadow.xyz - vec3(0.0015, 0.0006, 0.0)));
        vec2 outside = abs(on_shadow.xy - 0.5);  // of the map: nothing that matters casts a shadow there
        reach = max(reach, step(0.497, max(outside.x, outside.y)));
        // Red light leaks furthest into the shadow's edge on skin.
        lit = key_colour * vec3(MATERIAL <= {SKIN} ? mix(reach, sqrt(reach), 0.4) : reach, reach, reach);
    }}
    vec3 light = soft_light + lit * max((facing + wrap) / (1.0 + wrap), 0.0);
    vec3 half_way = normalize(towards + eye);
    float grazing = 1.0 - max(dot(half_way, eye), 0.0);
    vec3 glint = lit * shine * (0.35 + 0.65 * grazing * grazing * grazing) * step(0.0, facing)
        * exp2(1.4427 * sharpness * (dot(n, half_way) - 1.0));  // a Gaussian lobe, cheaper than a power
    out_colour = vec4(sqrt(clamp((colour * light + glint) / {LIGHT_RANGE}, 0.0, 1.0)), 1.0);
    out_truth = uvec2(uint(part + 0.5), uint(clamp(z / {DEPTH_STEP}, 0.0, 65534.0)));
}}
"""
SURFACE_FRAGMENTS: Final = tuple(
    f"#version 330\n#define MATERIAL {material}\n{_SURFACE_FRAGMENT}" for material in (HAND, SKIN, CLOTH, PLAIN)
)
"""One program for every material: without branches a picture is shaded in half the time."""

SHADOW_VERTEX: Final = """#version 330
in vec3 in_position;
uniform mat4 shadow_matrix;
void main() { gl_Position = vec4((shadow_matrix * vec4(in_position, 1.0)).xyz * 2.0 - 1.0, 1.0); }
"""

SHADOW_FRAGMENT: Final = """#version 330
void main() {}
"""

BACKDROP_VERTEX: Final = """#version 330
uniform float aspect;
out vec2 place;
void main() {
    vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 4.0 - 1.0;
    place = corner * vec2(aspect, 1.0);
    gl_Position = vec4(corner, 0.0, 1.0);
}
"""

BACKDROP_FRAGMENT: Final = f"""#version 330
in vec2 place;
uniform sampler3D noise;
uniform vec3 top, bottom;
uniform vec3 grain;           // amount, scale, seed
uniform int shape_count;
uniform vec2 shape_axis[{MOST_SHAPES}];  // cosine and sine of its angle
uniform vec3 shape_edge[{MOST_SHAPES}];
uniform vec4 shape_frame[{MOST_SHAPES}], shape_colour[{MOST_SHAPES}];
out vec4 out_colour;

void main() {{
    vec3 rough = textureLod(noise, vec3(place * grain.y * 0.06, grain.z), 0.0).rgb - 0.5;
    vec3 colour = mix(top, bottom, 0.5 + 0.5 * place.y) * (1.0 + grain.x * (rough.r + 0.3 * rough));
    for (int i = 0; i < shape_count; i++) {{
        vec4 frame = shape_frame[i];
        vec3 edge = shape_edge[i];     // roundness, softness, grain
        float c = shape_axis[i].x, s = shape_axis[i].y;
        vec2 p = mat2(c, -s, s, c) * (place - frame.xy);
        // A box whose corners are rounded by a share of its half size; a share of 1 is an ellipse.
        vec2 q = abs(p) / frame.zw;
        float d = length(max(q - 1.0 + edge.x, 0.0)) - edge.x;
        if (edge.x <= 0.0) d = max(q.x, q.y) - 1.0;
        float inside = 1.0 - smoothstep(-edge.y, edge.y, d * min(frame.z, frame.w));
        if (inside > 0.0) {{
            vec3 mark = textureLod(noise, vec3(p * shape_colour[i].w * 0.12, grain.z + 0.37 * float(i)), 0.0).rgb - 0.5;
            colour = mix(colour, shape_colour[i].rgb * (1.0 + edge.z * (mark.r + 0.3 * mark)), inside);
        }}
    }}
    out_colour = vec4(sqrt(clamp(colour / {LIGHT_RANGE}, 0.0, 1.0)), 1.0);
}}
"""
