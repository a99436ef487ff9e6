"""Ray casting of small models: outline, colours, sides, glass and textures are exact."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("embreex")

from training.toy.data.mesh import MeshError, read_mesh
from training.toy.data.raycast import MeshRenderer, camera_axes, fit_mesh, view_direction
from training.toy.data.render import is_visible

# A square of side 2 in the plane z = 0, seen from +z.
SQUARE = "v -1 -1 0\nv 1 -1 0\nv 1 1 0\nv -1 1 0\nvt 0 0\nvt 1 0\nvt 1 1\nvt 0 1\n"
FRONT = view_direction(0, 0)


def library(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return zipfile.ZipFile(buffer)


def square_mesh(material, face="f 1/1 2/2 3/3 4/4", extra=None):
    obj = f"mtllib a.mtl\n{SQUARE}usemtl paint\n{face}\n"
    files = {"m/a.obj": obj, "m/a.mtl": f"newmtl paint\n{material}\n"} | (extra or {})
    mesh = read_mesh(library(files), "m/a.obj")
    fit_mesh(mesh, None, None)
    return mesh


def draw(mesh, direction=FRONT, side=16):
    return MeshRenderer(mesh).draw(direction, side)


def test_square_fills_its_outline_with_its_colour():
    picture = draw(square_mesh("Kd 1 0.5 0.03"))
    assert picture.shape == (16, 16, 4)
    assert (picture[..., 3] == 255).all()
    red, green, blue = picture[8, 8, :3] / 255.0
    assert green / red == pytest.approx(0.5, abs=0.01)
    assert blue / red == pytest.approx(0.03, abs=0.01)


def test_inside_out_faces_look_the_same():
    outward = draw(square_mesh("Kd 0.2 0.6 0.4"))
    inward = draw(square_mesh("Kd 0.2 0.6 0.4", face="f 4/4 3/3 2/2 1/1"))
    assert np.array_equal(outward, inward)
    assert outward[..., 1].min() > 60


def test_glass_has_partial_alpha():
    picture = draw(square_mesh("Kd 1 1 1\nd 0.5"))
    assert picture[8, 8, 3] == pytest.approx(128, abs=1)


def test_invisible_glass_is_kept_visible():
    assert draw(square_mesh("Kd 1 1 1\nd 0.0"))[8, 8, 3] > 64


def test_texture_is_upright_and_not_mirrored():
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0], pixels[0, 1], pixels[1, 0], pixels[1, 1] = (
        (200, 0, 0),
        (0, 200, 0),
        (0, 0, 200),
        99,
    )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    extra = {"m/t.png": buffer.getvalue()}
    picture = draw(square_mesh("Kd 0 0 0\nmap_Kd t.png", extra=extra))
    assert picture[4, 4, :3].argmax() == 0
    assert picture[4, 12, :3].argmax() == 1
    assert picture[12, 4, :3].argmax() == 2
    assert len(set(picture[12, 12, :3])) == 1


def test_catalogue_size_stretches_the_model():
    mesh = square_mesh("Kd 1 1 1")
    fit_mesh(mesh, (200.0, 100.0, 1.0), None)
    picture = draw(mesh)
    assert picture.shape == (8, 16, 4)


def test_rotation_turns_the_model():
    mesh = square_mesh("Kd 1 1 1")
    fit_mesh(mesh, (200.0, 100.0, 1.0), None)
    fit_mesh(mesh, None, (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    assert draw(mesh).shape == (16, 8, 4)


def test_a_missing_texture_leaves_the_colour():
    picture = draw(square_mesh("Kd 1 0.03 0.03\nmap_Kd lost.png"))
    assert picture[8, 8, :3].argmax() == 0


def test_a_model_without_faces_is_refused():
    with pytest.raises(MeshError, match=r"m/a\.obj: expected triangles, got none"):
        read_mesh(library({"m/a.obj": SQUARE}), "m/a.obj")


def test_view_direction_is_a_unit_vector_with_y_up():
    assert view_direction(90, 0) == pytest.approx([1, 0, 0], abs=1e-9)
    assert view_direction(0, 90) == pytest.approx([0, 1, 0], abs=1e-9)
    axes = camera_axes(view_direction(40, 35))
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-9)
    assert axes[1, 1] > 0


def test_empty_and_edge_on_pictures_are_dropped():
    solid = np.full((128, 64, 4), 255, np.uint8)
    assert is_visible(solid)
    assert not is_visible(solid[:, :5])
    assert not is_visible(solid[:0, :0])
    assert not is_visible(solid // 8)
