"""What the pocket museum collects: its cultures, mediums, palettes and attributes."""

from dataclasses import dataclass

from imetlib.collection.museum_motifs import MOTIFS
from imetlib.collection.museum_objects import OBJECTS

ORNAMENTS = (
    "zigzags", "dots", "meanders", "checkers", "waves", "lattices",
    "scallops", "stripes", "triangles", "rosettes", "arches", "braids",
)  # fmt: skip

_CULTURES = """
egyptian   lapis      zigzags   checkers   stone  vases masks friezes
japan      ink        waves     scallops   ink    scrolls fans screens
italian    madder     arches    rosettes   oil    portraits landscapes plates
greek      terracotta meanders  waves      glaze  vases coins friezes
chinese    cobalt     meanders  scallops   glaze  vases scrolls bowls
french     madder     rosettes  scallops   oil    portraits fans landscapes
islamic    lapis      lattices  braids     glaze  tiles books bowls
roman      earth      meanders  braids     stone  coins friezes jugs
british    cobalt     stripes   checkers   oil    landscapes portraits books
indian     gold       dots      scallops   weave  textiles swords boxes
mexican    terracotta zigzags   triangles  glaze  masks bowls vases
persian    jade       lattices  rosettes   weave  textiles books tiles
dutch      earth      stripes   checkers   oil    landscapes portraits tiles
peruvian   madder     checkers  zigzags    weave  textiles jugs masks
byzantine  gold       braids    arches     gold   portraits books pendants
german     earth      arches    stripes    oil    portraits goblets shields
korean     jade       dots      waves      glaze  vases screens bowls
turkish    cobalt     scallops  lattices   weave  textiles tiles plates
etruscan   terracotta waves     dots       glaze  jugs vases pendants
celtic     jade       braids    dots       gold   pendants swords shields
minoan     lapis      waves     stripes    glaze  jugs bowls vases
spanish    madder     checkers  lattices   glaze  plates fans tiles
russian    gold       rosettes  arches     gold   portraits boxes books
maya       earth      meanders  checkers   stone  friezes masks plates
coptic     ink        dots      arches     weave  textiles books pendants
inca       gold       triangles meanders   weave  textiles goblets jugs
thai       gold       scallops  triangles  gold   masks boxes screens
nubian     earth      triangles dots       stone  bowls jugs pendants
assyrian   lapis      rosettes  triangles  stone  friezes swords shields
viking     ink        braids    zigzags    stone  swords shields boxes
armenian   jade       arches    lattices   gold   books boxes goblets
tibetan    lapis      lattices  stripes    weave  scrolls masks bowls
hawaiian   terracotta triangles waves      weave  textiles bowls fans
navajo     ink        zigzags   lattices   weave  textiles pendants masks
"""


@dataclass(frozen=True)
class Culture:
    """What a culture decides: palette, ornament, medium, and which objects it likes."""

    name: str
    palette: str
    ornaments: tuple[str, str]
    medium: str
    objects: tuple[str, ...]


CULTURES = tuple(
    Culture(name, palette, (first, second), medium, tuple(objects))
    for name, palette, first, second, medium, *objects in map(
        str.split, _CULTURES.strip().splitlines()
    )
)
MEDIUMS = tuple(sorted({culture.medium for culture in CULTURES}))
PALETTES = tuple(sorted({culture.palette for culture in CULTURES}))

CLASS_NAMES = tuple(sorted(f"culture::{culture.name}" for culture in CULTURES)) + tuple(
    sorted(f"tag::{name}" for name in (*OBJECTS, *ORNAMENTS, *MOTIFS))
)
"""The attributes; the place in this tuple is the attribute id."""

ATTRIBUTE_IDS = {name: column for column, name in enumerate(CLASS_NAMES)}
