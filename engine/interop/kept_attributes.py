"""What of a film's header may leave: PS3.15 E.3 options and closed value sets. Everything else stays behind.

A value has to be of its kind: a number that reads as one, a code string of the attribute's own list, a code of its
context group. Free text is not among the kinds."""

from __future__ import annotations

from functools import cache

from pydicom.sr.codedict import codes

UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")  # mapped with the key
DATES = (  # moved with the key; 113107 Retain Longitudinal Temporal Information Modified Dates
    "PatientBirthDate",
    "StudyDate",
    "SeriesDate",
    "AcquisitionDate",
    "AcquisitionDateTime",
    "ContentDate",
)
PATIENT_CHARACTERISTICS = ("PatientSex", "PatientAge", "PatientSize", "PatientWeight")  # 113108, table E.1-1
# Attributes that some information object requires, with or without a value (type 2).
EMPTIED = (
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "StudyTime",
    "Manufacturer",
    "AcquisitionContextSequence",
    "IlluminationTypeCodeSequence",
    "LightPathFilterTypeStackCodeSequence",
    "ImagePathFilterTypeStackCodeSequence",
    "LensesCodeSequence",
)

NUMBERS = (
    "PatientSize",
    "PatientWeight",
    "SeriesNumber",
    "InstanceNumber",
    "AcquisitionNumber",
    "KVP",
    "Exposure",
    "ExposureInuAs",
    "ExposureTime",
    "XRayTubeCurrent",
    "DistanceSourceToDetector",
    "DistanceSourceToPatient",
    "EstimatedRadiographicMagnificationFactor",
    "BodyPartThickness",
    "ExposureIndex",
    "TargetExposureIndex",
    "DeviationIndex",
    "RelativeXRayExposure",
    "ImagerPixelSpacing",
    "PixelSpacing",
    "NominalScannedPixelSpacing",
    "PixelAspectRatio",
    "PixelIntensityRelationshipSign",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleIntercept",
    "RescaleSlope",
    "WindowCenter",
    "WindowWidth",
    "LossyImageCompressionRatio",
    "ShutterLeftVerticalEdge",
    "ShutterRightVerticalEdge",
    "ShutterUpperHorizontalEdge",
    "ShutterLowerHorizontalEdge",
    "CenterOfCircularShutter",
    "RadiusOfCircularShutter",
    "VerticesOfThePolygonalShutter",
    "ShutterPresentationValue",
    "CollimatorLeftVerticalEdge",
    "CollimatorRightVerticalEdge",
    "CollimatorUpperHorizontalEdge",
    "CollimatorLowerHorizontalEdge",
    "CenterOfCircularCollimator",
    "RadiusOfCircularCollimator",
    "VerticesOfThePolygonalCollimator",
    "HorizontalFieldOfView",
    "EmmetropicMagnification",
    "IntraOcularPressure",
    "DegreeOfDilation",
    "LUTDescriptor",
)
LARGEST_NUMBER = 99_999  # a larger one may be an identifier
COUNTERS = ("SeriesNumber", "InstanceNumber", "AcquisitionNumber")

BODY_PARTS = (  # PS3.16 annex L, what films of children are of
    "ABDOMEN ANKLE ARM BREAST CERVICAL CHEST CLAVICLE COCCYX CSPINE ELBOW EXTREMITY EYE FEMUR FINGER FOOT FOREARM HAND "
    "HEAD HIP HUMERUS JAW KNEE LEG LSPINE MAXILLA NECK ORBIT PATELLA PELVIS RADIUS RIB SCAPULA SHOULDER SKULL SPINE "
    "SSPINE STERNUM THUMB TIBIA TOE TSPINE ULNA WHOLEBODY WRIST"
)
YES_NO = ("YES", "NO")
# PS3.3: the defined terms and enumerated values of each; a value that is not one of them stays behind.
CODE_STRINGS: dict[str, tuple[str, ...]] = {
    "PatientSex": ("M", "F", "O"),
    "Modality": ("CR", "DX", "OP", "OT", "RG", "XC", "DG", "RF", "IO", "PX"),
    "ImageType": ("ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "COLOR", "REDFREE", "RED", "BLUE", "MONTAGE"),
    "ConversionType": ("DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"),
    "PresentationIntentType": ("FOR PRESENTATION", "FOR PROCESSING"),
    "BodyPartExamined": tuple(BODY_PARTS.split()),
    "ViewPosition": ("AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO", "OBL"),
    "ImageLaterality": ("L", "R", "B", "U"),
    "Laterality": ("L", "R"),
    "PatientOrientation": ("A", "P", "R", "L", "H", "F", "AL", "AR", "PL", "PR", "HL", "HR", "FL", "FR", "LE", "RT"),
    "QualityControlImage": YES_NO,
    "ShutterShape": ("RECTANGULAR", "CIRCULAR", "POLYGONAL"),
    "CollimatorShape": ("RECTANGULAR", "CIRCULAR", "POLYGONAL"),
    "DetectorType": ("DIRECT", "SCINTILLATOR", "STORAGE", "FILM", "CCD", "CMOS", "PHOTO"),
    "PixelIntensityRelationship": ("LIN", "LOG", "DISP", "IS"),
    "PixelSpacingCalibrationType": ("GEOMETRY", "FIDUCIAL"),
    "PresentationLUTShape": ("IDENTITY", "INVERSE"),
    "RescaleType": ("US", "OD", "HU"),  # LO in the standard's dictionary, with defined terms
    "VOILUTFunction": ("LINEAR", "LINEAR_EXACT", "SIGMOID"),
    "LossyImageCompression": ("00", "01"),
    "LossyImageCompressionMethod": (
        "ISO_10918_1",
        "ISO_14495_1",
        "ISO_15444_1",
        "ISO_15444_15",
        "ISO_18181_1",
        "ISO_13818_2",
        "ISO_14496_10",
    ),
    "PatientEyeMovementCommanded": YES_NO,
    "PupilDilated": YES_NO,
}

# Sequences of codes, and the context groups (PS3.16) that their codes must be of; the meaning is the group's.
CODE_SEQUENCES: dict[str, tuple[str, ...]] = {
    "AnatomicRegionSequence": ("cid4031", "cid4209"),
    "PrimaryAnatomicStructureSequence": ("cid4209",),
    "ViewCodeSequence": ("cid4010",),
    "AcquisitionDeviceTypeCodeSequence": ("cid4202",),
    "IlluminationTypeCodeSequence": ("cid4203",),
    "LightPathFilterTypeStackCodeSequence": ("cid4204",),
    "ImagePathFilterTypeStackCodeSequence": ("cid4204",),
    "LensesCodeSequence": ("cid4205",),
    "RelativeImagePositionCodeSequence": ("cid4207",),
}
LUT_SEQUENCES = ("ModalityLUTSequence", "VOILUTSequence")


@cache
def meanings(context_group: str) -> dict[tuple[str, str], str]:
    """(scheme, value) to meaning."""
    group = getattr(codes, context_group)
    members = [getattr(group, name) for name in group.dir()]
    return {(code.scheme_designator, code.value): code.meaning for code in members}
