"""The OpenAPI document."""

import re

from openapi_spec_validator import validate

from serving.contract import openapi
from state.records import EVENT_TYPES
from tests.unit.serving.system import System


def test_the_document_is_valid_openapi() -> None:
    validate(openapi.document())


def test_it_says_what_the_validating_types_say() -> None:
    document = openapi.document()
    schemas = document["components"]["schemas"]
    assert set(schemas["Event"]["properties"]["type"]["enum"]) == set(EVENT_TYPES)
    parameters = document["paths"]["/v1/users/{user_id}/recommendations"]["get"]["parameters"]
    limit = next(parameter for parameter in parameters if parameter["name"] == "limit")
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"], limit["schema"]["default"]) == (1, 100, 20)


async def test_bodies_may_be_left_out_where_it_says_so(system: System) -> None:
    """R29"""
    for operation in openapi.OPERATIONS:
        if operation.bodies:
            described = openapi.document()["paths"][operation.path][operation.method]["requestBody"]
            status, answer = await system.call(operation.method.upper(), re.sub(r"{\w+}", "x", operation.path))
            assert (status == 400) == described["required"], (operation.path, answer)
