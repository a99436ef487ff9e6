"""Annotated pictures of others as records: COCO, LVIS, OpenImages, the authors' tars, cut-outs."""
