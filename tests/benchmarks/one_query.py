"""A query of TinyBench as benches take it."""

from __future__ import annotations

from training.evaluation.queries import Query, QuerySubject

SUBJECT = QuerySubject(
    identity="model:crab",
    label="crab",
    reference_row=0,
    target_row=1,
    shuffled_row=2,
    box_px=(32, 64, 96, 128),
)
QUERY = Query(
    kind="one",
    index=0,
    subjects=(SUBJECT,),
    prompt="a crab on a beach",
    scene="beach",
    background_row=0,
    seed=5,
)
