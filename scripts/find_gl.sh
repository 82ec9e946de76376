#!/bin/sh
# Finds a GL library that MuJoCo can draw with and prints its name (egl or osmesa) on standard output.
# Usage: find_gl.sh PYTHON. Where there is none: as root on Debian or Ubuntu it installs Mesa; otherwise it prints the
# one line to run and exits with 1. A choice in MUJOCO_GL is tried first and alone.
set -u
python=$1
packages="libegl1 libegl-mesa0 libgl1-mesa-dri libosmesa6"

draws() {
    MUJOCO_GL=$1 "$python" - >/dev/null 2>&1 <<'PY'
import mujoco

model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 3'/><geom size='1'/></worldbody></mujoco>"
)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 32, 32)
renderer.update_scene(data)
raise SystemExit(0 if renderer.render().max() > 0 else 1)
PY
}

search() {
    for name in ${MUJOCO_GL:-egl osmesa}; do
        if draws "$name"; then
            echo "$name"
            return 0
        fi
    done
    return 1
}

search && exit 0
if [ -n "${MUJOCO_GL:-}" ]; then
    echo "make gl: expected MUJOCO_GL=$MUJOCO_GL to draw a picture, got none. Unset MUJOCO_GL to let make choose." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "make gl: no GL library draws yet; installing $packages" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages; } >&2 </dev/null
    search && exit 0
fi
echo "make gl: expected a GL library that MuJoCo can draw with (EGL or OSMesa), got none. Run:" >&2
echo "    sudo apt-get install -y $packages" >&2
exit 1
