"""DICOM to Film, on files made for the purpose; dcmtk is the independent opinion where it has one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence

from engine.errors import FileRefused
from engine.imaging.dicom import dataset_film, read_dicom
from engine.imaging.display import display_pixels
from tests.engine.imaging.dicom_conformance import run_dcmtk
from tests.engine.imaging.synthetic import lut_item, radiograph, ramp, saved

needs_dcmtk = pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="dcmtk is not installed")


def shown(dataset: Dataset) -> np.ndarray:
    return display_pixels(dataset_film(dataset)).astype(int)


def assert_like_dcmtk(dataset: Dataset, options: list[str], folder: Path) -> None:
    path = saved(dataset, folder / "film.dcm")
    theirs = run_dcmtk("dcmj2pnm", path, options)
    assert theirs is not None
    ours = display_pixels(read_dicom(path))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


# Windows


@needs_dcmtk
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("function", [None, "LINEAR", "SIGMOID"])
@pytest.mark.parametrize(("slope", "intercept"), [(None, None), (2.5, -1024), (0.25, 0)])
def test_a_window_looks_as_in_dcmtk(tmp_path, photometric, function, slope, intercept) -> None:
    film = radiograph(
        ramp(),
        bits=12,
        PhotometricInterpretation=photometric,
        WindowCenter=900,
        WindowWidth=1200,
        VOILUTFunction=function,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
    )
    assert_like_dcmtk(film, ["+Wi", "1"], tmp_path)


@needs_dcmtk
def test_signed_pixels_look_as_in_dcmtk(tmp_path) -> None:
    pixels = (ramp().astype(np.int32) - 2048).astype(np.int16)
    assert_like_dcmtk(radiograph(pixels, bits=12, WindowCenter=-100, WindowWidth=700), ["+Wi", "1"], tmp_path)


@needs_dcmtk
def test_a_negative_slope_turns_the_picture_as_in_dcmtk(tmp_path) -> None:
    film = radiograph(ramp(), bits=12, RescaleSlope=-1, RescaleIntercept=4095, WindowCenter=1000, WindowWidth=1500)
    assert_like_dcmtk(film, ["+Wi", "1"], tmp_path)


def test_windows_keep_the_files_order_and_names() -> None:
    film = dataset_film(
        radiograph(ramp(), WindowCenter=[100, 200], WindowWidth=[50, 60], WindowCenterWidthExplanation=["BONE", "SOFT"])
    )
    assert [voi.name for voi in film.vois] == ["BONE", "SOFT", "automatic"]
    assert (film.vois[0].center, film.vois[0].width) == (100, 50)


def test_linear_exact_differs_from_linear_as_the_standard_says() -> None:
    pixels = np.array([[0, 64, 128, 192, 255, 256]], np.uint16)
    exact = shown(radiograph(pixels, WindowCenter=128, WindowWidth=256, VOILUTFunction="LINEAR_EXACT"))
    linear = shown(radiograph(pixels, WindowCenter=128, WindowWidth=256))
    assert linear.tolist() == [[0, 64, 128, 192, 255, 255]]
    assert exact.tolist() == [[0, 64, 128, 191, 254, 255]]


@pytest.mark.parametrize("width", [0, 0.5, -100])
def test_a_window_too_narrow_falls_back_to_the_automatic_one(width) -> None:
    film = dataset_film(radiograph(ramp(), WindowCenter=100, WindowWidth=width))
    assert film.vois[0].name == "automatic"
    assert any("(0028,1051) Window Width must be at least 1" in warning for warning in film.warnings)


def test_a_broken_window_value_is_a_warning_not_a_crash() -> None:
    dataset = radiograph(ramp())
    dataset.add_new("WindowCenter", "LO", "abc")
    dataset.add_new("WindowWidth", "LO", "def")
    film = dataset_film(dataset)
    assert film.vois[0].name == "automatic"
    assert any("Window Center cannot be read" in warning for warning in film.warnings)


def test_the_automatic_window_spans_the_inner_99_percent() -> None:
    pixels = np.full((100, 100), 1000, np.uint16)
    pixels[:50] = 2000
    pixels[0, :40] = 65535  # 0.4 %: a marker must not decide
    film = dataset_film(radiograph(pixels))
    assert film.vois[0].center - film.vois[0].width / 2 == 1000
    assert film.vois[0].center + film.vois[0].width / 2 == 2000


# Lookup tables


@needs_dcmtk
def test_an_8_bit_voi_lut_of_more_than_256_entries(tmp_path) -> None:
    """pydicom 3.0.2 shows at most 15 of 255 grey levels here, without a word."""
    lut = np.linspace(0, 255, 4096).round()
    film = radiograph(ramp(), bits=12, VOILUTSequence=Sequence([lut_item(0, 8, lut, "BONE")]))
    assert shown(film).max() == 255
    assert_like_dcmtk(film, ["+Wl", "1"], tmp_path)


@needs_dcmtk
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("first", [0, 1000])
def test_voi_luts_look_as_in_dcmtk(tmp_path, bits, first) -> None:
    curve = np.linspace(0, 1, 2000) ** 2 * (2**bits - 1)
    film = radiograph(ramp(), bits=12, VOILUTSequence=Sequence([lut_item(first, bits, curve.round())]))
    assert_like_dcmtk(film, ["+Wl", "1"], tmp_path)


@needs_dcmtk
@pytest.mark.parametrize("bits", [8, 10, 12, 13, 16])
def test_modality_luts_look_as_in_dcmtk(tmp_path, bits) -> None:
    lut = (np.linspace(1, 0, 4096) ** 1.5 * (2**bits - 1)).round()
    middle = 2 ** (bits - 1)
    film = radiograph(
        ramp(),
        bits=12,
        ModalityLUTSequence=Sequence([lut_item(0, bits, lut)]),
        WindowCenter=middle,
        WindowWidth=middle,
    )
    assert_like_dcmtk(film, ["+Wi", "1"], tmp_path)


def test_a_voi_lut_whose_first_value_is_negative() -> None:
    """pydicom 3.0.2 raises OverflowError here. Input -100 maps to the first entry, 99 to the last."""
    pixels = np.array([[-200, -100, -50, 0, 99, 300]], np.int16)
    lut = np.arange(200) + 50
    film = radiograph(pixels, VOILUTSequence=Sequence([lut_item(-100, 8, lut)]))
    assert shown(film).tolist() == [[50, 50, 100, 150, 249, 249]]
    unsigned = radiograph(np.array([[0, 99, 300]], np.uint16), VOILUTSequence=Sequence([lut_item(-100, 8, lut)]))
    assert shown(unsigned).tolist() == [[150, 249, 249]]


def test_a_voi_lut_works_on_modality_values() -> None:
    pixels = np.array([[0, 10, 20]], np.uint16)
    lut = lut_item(-1000, 8, np.arange(0, 250))
    film = radiograph(pixels, RescaleSlope=10, RescaleIntercept=-1000, VOILUTSequence=Sequence([lut]))
    assert shown(film).tolist() == [[0, 100, 200]]


def test_a_lut_that_declares_more_bits_than_it_uses_is_shown_with_those_it_uses() -> None:
    """Agfa CR writes the storage size (16) for 12-bit output."""
    lut = lut_item(0, 16, np.linspace(0, 4095, 4096).round())
    film = dataset_film(radiograph(ramp(), bits=12, VOILUTSequence=Sequence([lut])))
    assert display_pixels(film).max() == 255
    assert any("declares 16-bit output but reaches 4095 only" in warning for warning in film.warnings)


def test_a_voi_lut_comes_before_the_window_and_a_broken_one_gives_way_to_it() -> None:
    good, cut = lut_item(0, 8, np.arange(256)), lut_item(0, 8, np.arange(256))
    cut.LUTData = b"\0" * 20
    both = {"WindowCenter": 100, "WindowWidth": 50}
    film = dataset_film(radiograph(ramp(), VOILUTSequence=Sequence([good]), **both))
    assert [voi.kind for voi in film.vois] == ["lut", "linear", "linear_exact"]
    film = dataset_film(radiograph(ramp(), VOILUTSequence=Sequence([cut]), **both))
    assert [voi.kind for voi in film.vois] == ["linear", "linear_exact"]
    assert any("VOI LUT 1 is not usable" in warning for warning in film.warnings)


def test_a_packed_8_bit_lut() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [256, 0, 8])
    item.add_new("LUTData", "OW", bytes(range(256)))
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(shown(radiograph(pixels, VOILUTSequence=Sequence([item]))), pixels)


@pytest.mark.parametrize("slope", [0, float("nan")])
def test_a_rescale_slope_that_erases_the_image_is_refused(slope) -> None:
    dataset = radiograph(ramp(), RescaleIntercept=0)
    dataset.add_new("RescaleSlope", "FD", slope)
    with pytest.raises(FileRefused, match="Rescale Slope") as refusal:
        dataset_film(dataset)
    assert refusal.value.code == "malformed"


# Inversion


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted", "contradiction"),
    [
        ("MONOCHROME1", None, True, False),
        ("MONOCHROME2", None, False, False),
        ("MONOCHROME1", "INVERSE", True, False),
        ("MONOCHROME2", "IDENTITY", False, False),
        ("MONOCHROME1", "IDENTITY", False, True),
        ("MONOCHROME2", "INVERSE", True, True),
    ],
)
def test_inversion_happens_once_and_contradictions_are_said(photometric, shape, inverted, contradiction) -> None:
    dark_ground = np.full((64, 64), 100, np.uint16)
    dark_ground[20:40, 20:40] = 3000
    film = dataset_film(
        radiograph(
            dark_ground,
            bits=12,
            PhotometricInterpretation=photometric,
            PresentationLUTShape=shape,
            WindowCenter=2048,
            WindowWidth=4096,
        )
    )
    grey = display_pixels(film)
    assert (grey[0, 0] > grey[30, 30]) == inverted
    assert any("contradicts" in warning for warning in film.warnings) == contradiction


@needs_dcmtk
@pytest.mark.parametrize("shape", ["IDENTITY", "INVERSE"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_in_a_contradiction_the_shape_decides_as_in_dcmtk(tmp_path, photometric, shape) -> None:
    film = radiograph(
        ramp(),
        bits=12,
        PhotometricInterpretation=photometric,
        PresentationLUTShape=shape,
        WindowCenter=900,
        WindowWidth=1200,
    )
    assert_like_dcmtk(film, ["+Wi", "1"], tmp_path)


# What is not image


def test_padding_is_black_and_left_out_of_the_automatic_window() -> None:
    pixels = np.full((100, 100), 500, np.uint16)
    pixels[:, 50:] = 1500
    pixels[:30] = 4000  # the padding
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        dataset = radiograph(pixels, bits=12, PhotometricInterpretation=photometric, PixelPaddingValue=4000)
        film = dataset_film(dataset)
        assert (display_pixels(film)[:30] == 0).all()
        assert film.vois[0].width == 1000
    plain = shown(radiograph(pixels, bits=12, WindowCenter=1000, WindowWidth=2000))
    padded = shown(radiograph(pixels, bits=12, WindowCenter=1000, WindowWidth=2000, PixelPaddingValue=4000))
    assert np.array_equal(plain[30:], padded[30:])


def test_a_padding_range_on_signed_pixels() -> None:
    pixels = np.array([[-2000, -1990, -1000, 0, 1000]], np.int16)
    dataset = radiograph(pixels, WindowCenter=0, WindowWidth=2001)
    dataset.add_new("PixelPaddingValue", "SS", -2000)
    dataset.add_new("PixelPaddingRangeLimit", "SS", -1985)
    assert shown(dataset).tolist() == [[0, 0, 0, 128, 255]]
    assert (dataset_film(dataset).pixels == 0).tolist() == [[True, True, False, False, False]]


def test_padding_when_every_pixel_value_is_in_use() -> None:
    pixels = np.arange(65536, dtype=np.uint32).astype(np.uint16).reshape(256, 256)
    film = dataset_film(radiograph(pixels, PixelPaddingValue=0, WindowCenter=32768, WindowWidth=65536))
    assert film.pixels[0, 0] == film.background == 0
    assert (film.pixels.ravel()[1:] == pixels.ravel()[1:]).all()


def test_padding_that_would_hide_everything_is_not_followed() -> None:
    film = dataset_film(radiograph(np.full((64, 64), 7, np.uint16), PixelPaddingValue=7))
    assert film.background is None
    assert any("hide the whole image" in warning for warning in film.warnings)


SHUTTERS = {
    "RECTANGULAR": {
        "ShutterUpperHorizontalEdge": 11,
        "ShutterLowerHorizontalEdge": 90,
        "ShutterLeftVerticalEdge": 21,
        "ShutterRightVerticalEdge": 80,
    },
    "CIRCULAR": {"CenterOfCircularShutter": [50, 50], "RadiusOfCircularShutter": 30},
    "POLYGONAL": {"VerticesOfThePolygonalShutter": [11, 21, 11, 80, 90, 80, 90, 21]},
}


@pytest.mark.parametrize("shape", SHUTTERS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_outside_the_shutter_is_black(shape, photometric) -> None:
    pixels = np.full((100, 100), 2000, np.uint16)
    grey = shown(
        radiograph(
            pixels,
            bits=12,
            PhotometricInterpretation=photometric,
            WindowCenter=2000,
            WindowWidth=1000,
            ShutterShape=shape,
            **SHUTTERS[shape],
        )
    )
    assert grey[50, 50] in (127, 128)
    assert grey[5, 50] == grey[50, 10] == grey[99, 99] == 0
    if shape != "CIRCULAR":
        expected = np.zeros((100, 100), bool)
        expected[10:90, 20:80] = True
        assert np.array_equal(grey > 0, expected)


@pytest.mark.parametrize(
    "tags",
    [
        {"ShutterShape": "RECTANGULAR"},
        {"ShutterShape": "BITMAP"},
        {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [900, 900], "RadiusOfCircularShutter": 3},
    ],
)
def test_a_shutter_that_makes_no_sense_is_not_followed(tags) -> None:
    film = dataset_film(radiograph(ramp(100, 100), **tags))
    assert film.background is None
    assert any("shutter is not followed" in warning for warning in film.warnings)


def test_the_collimators_shadow_is_shown_but_does_not_set_the_window() -> None:
    pixels = np.full((100, 100), 60000, np.uint16)
    pixels[20:80, 20:80] = 1000
    pixels[40:60, 20:80] = 2000
    edges = {"UpperHorizontal": 21, "LowerHorizontal": 80, "LeftVertical": 21, "RightVertical": 80}
    film = dataset_film(
        radiograph(
            pixels,
            CollimatorShape="RECTANGULAR",
            **{f"Collimator{edge}Edge": position for edge, position in edges.items()},
        )
    )
    assert film.vois[0].width == 1000
    assert film.background is None
    assert display_pixels(film)[0, 0] == 255


# Bits, sizes, spacing


def test_bits_above_bits_stored_are_taken_out() -> None:
    pixels = np.array([[0x0FFF, 0xF123]], np.uint16)
    assert dataset_film(radiograph(pixels, bits=12)).pixels.tolist() == [[0x0FFF, 0x0123]]


@needs_dcmtk
def test_a_high_bit_elsewhere_moves_the_values_down_as_in_dcmtk(tmp_path) -> None:
    pixels = (ramp() << 4).astype(np.uint16)
    film = radiograph(pixels, bits=12, HighBit=15, WindowCenter=900, WindowWidth=1200)
    assert_like_dcmtk(film, ["+Wi", "1"], tmp_path)


def test_pixels_that_are_not_square_are_resampled() -> None:
    pixels = np.zeros((50, 100), np.uint16)
    pixels[:, 50:] = 1000
    tall = dataset_film(radiograph(pixels, PixelAspectRatio=[2, 1]))
    assert tall.pixels.shape == (100, 100)
    assert any("resampled to square" in warning for warning in tall.warnings)
    wide = dataset_film(radiograph(pixels, ImagerPixelSpacing=[0.1, 0.2]))
    assert wide.pixels.shape == (50, 200)
    assert wide.spacing_mm == (0.1, 0.1)
    assert set(np.unique(wide.pixels[:, :90])) == {0}
    assert dataset_film(radiograph(pixels, PixelAspectRatio=[1, 1])).pixels.shape == (50, 100)


def test_an_absurd_aspect_is_not_followed() -> None:
    film = dataset_film(radiograph(ramp(), PixelAspectRatio=[100000, 1]))
    assert film.pixels.shape == (256, 256)
    assert any("not followed" in warning for warning in film.warnings)


@pytest.mark.parametrize(
    ("tags", "spacing", "source"),
    [
        ({}, None, None),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, (0.2, 0.2), "detector"),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.2, 0.2]}, (0.2, 0.2), "detector"),
        ({"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.18, 0.18]}, (0.18, 0.18), "calibrated"),
        ({"PixelSpacing": [0.18, 0.18], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.18, 0.18), "calibrated"),
        ({"PixelSpacing": [0.18, 0.18]}, None, None),
        ({"ImagerPixelSpacing": [0, 0]}, None, None),
        ({"ImagerPixelSpacing": [-0.2, 0.2]}, None, None),
    ],
)
def test_millimetres_are_only_what_the_file_says(tags, spacing, source) -> None:
    film = dataset_film(radiograph(ramp(), **tags))
    assert (film.spacing_mm, film.spacing_source) == (spacing, source)


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"PixelData": b"\0" * 100}, "truncated"),
        ({"Rows": 0}, "no_pixels"),
        ({"Rows": None}, "malformed"),
        ({"Rows": 60000, "Columns": 60000}, "too_many_pixels"),
        ({"PhotometricInterpretation": None}, "unsupported_pixels"),
        ({"SamplesPerPixel": 3}, "malformed"),
        ({"BitsAllocated": 32}, "unsupported_pixels"),
        ({"BitsAllocated": 12}, "unsupported_pixels"),
    ],
)
def test_pixels_that_cannot_be_are_refused(tags, code) -> None:
    with pytest.raises(FileRefused) as refusal:
        dataset_film(radiograph(ramp(), **tags))
    assert refusal.value.code == code


def test_an_unknown_transfer_syntax_is_refused_by_name() -> None:
    dataset = radiograph(ramp())
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    with pytest.raises(FileRefused, match="MPEG2") as refusal:
        dataset_film(dataset)
    assert refusal.value.code == "unsupported_syntax"


# Colour and several frames


def test_rgb_is_kept_planar_or_not() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    common = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "Rows": 20, "Columns": 30}
    interleaved = radiograph(rgb, PlanarConfiguration=0, **common)
    planar = radiograph(rgb.transpose(2, 0, 1), PlanarConfiguration=1, **common)
    assert np.array_equal(dataset_film(interleaved).pixels, rgb)
    assert np.array_equal(dataset_film(planar).pixels, rgb)


def test_a_grey_picture_stored_as_rgb_becomes_grey() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    film = dataset_film(
        radiograph(
            np.repeat(grey[..., None], 3, axis=2),
            SamplesPerPixel=3,
            PlanarConfiguration=0,
            PhotometricInterpretation="RGB",
            Rows=16,
            Columns=16,
        )
    )
    assert not film.is_colour
    assert np.array_equal(display_pixels(film), grey)


def test_of_several_frames_the_first_is_shown_and_said() -> None:
    frames = np.stack([ramp(), ramp()[::-1]])
    film = dataset_film(radiograph(frames, Rows=256, Columns=256, NumberOfFrames=2))
    assert np.array_equal(film.pixels, ramp())
    assert film.tags.frames == 2
    assert any("2 frames" in warning for warning in film.warnings)


# Tags


def test_tags_are_read() -> None:
    tags = dataset_film(radiograph(ramp(), AcquisitionDate="20240612", Manufacturer="PediScreen phantom")).tags
    assert (tags.patient_id, tags.patient_sex, tags.patient_name) == ("P1", "F", "Doe^Jane")
    assert tags.patient_birth_date.isoformat() == "2015-03-10"
    assert tags.acquired_on.isoformat() == "2024-06-12"
    assert (tags.laterality, tags.body_part, tags.image_type) == ("L", "HAND", ("ORIGINAL", "PRIMARY"))
    assert tags.made_by_phantom


@pytest.mark.parametrize(
    ("keyword", "vr", "value", "attribute"),
    [
        ("PatientBirthDate", "DA", "2015-99-99", "patient_birth_date"),
        ("PatientBirthDate", "DA", "unknown", "patient_birth_date"),
        ("PatientSex", "CS", "female", "patient_sex"),
        ("PatientSex", "CS", "O", "patient_sex"),
        ("StudyDate", "DA", "0", "acquired_on"),
        ("ImageLaterality", "CS", "LEFT", "laterality"),
    ],
)
def test_a_value_that_breaks_the_standard_is_unknown(keyword, vr, value, attribute) -> None:
    dataset = radiograph(ramp())
    dataset.add_new(keyword, vr, value)
    assert getattr(dataset_film(dataset).tags, attribute) is None


def test_sides_that_contradict_each_other_are_unknown() -> None:
    film = dataset_film(radiograph(ramp(), ImageLaterality="L", Laterality="R"))
    assert film.tags.laterality is None
    assert any("contradict" in warning for warning in film.warnings)


def test_an_unknown_character_set_is_said() -> None:
    film = dataset_film(radiograph(ramp(), SpecificCharacterSet="ISO_IR 999"))
    assert any("ISO_IR 999" in warning for warning in film.warnings)


def test_an_enhanced_objects_first_frame_says_its_rescale_and_window() -> None:
    value, window, groups = Dataset(), Dataset(), Dataset()
    value.RescaleSlope, value.RescaleIntercept = 2, -1000
    window.WindowCenter, window.WindowWidth = 40, 400
    groups.PixelValueTransformationSequence = Sequence([value])
    groups.FrameVOILUTSequence = Sequence([window])
    film = dataset_film(radiograph(ramp(), SharedFunctionalGroupsSequence=Sequence([groups])))
    assert (film.slope, film.intercept) == (2, -1000)
    assert film.vois[0].kind == "linear"
