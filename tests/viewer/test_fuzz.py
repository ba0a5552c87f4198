"""The JSON interface under requests that schemathesis makes up from its description: no fault of the server."""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("fastapi", reason="needs the extra `view`")
from deepdft.viewer.app import create_app
from deepdft.viewer.routes import router

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

EXAMPLES = int(os.environ.get("DEEPDFT_FUZZ_EXAMPLES", "8"))


@pytest.fixture(scope="module")
def kept(predictor, limits):
    """The application, and the id of a finished prediction in it."""
    app = create_app(predictor, model_name="test", hosts=["testserver"], limits=limits)
    service = app.state.service
    job = service.start(structure="water", upload=None, spacing=0.4, fields=[])
    assert job.finished.wait(60)
    assert job.state == "done"
    yield app, job.id
    service.close()


OPERATIONS = [(route.path, method) for route in router.routes for method in sorted(route.methods)]


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_made_up_requests_are_answered_as_described(path, method, kept):
    app, identifier = kept
    operation = schemathesis.openapi.from_asgi("/api/openapi.json", app)[path][method]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=operation.as_strategy(), is_there=st.booleans())
    def check(case, is_there):
        if "identifier" in case.path_parameters and is_there:
            case.path_parameters["identifier"] = identifier
        elif isinstance(case.body, dict) and is_there and "structure" in case.body:
            case.body["structure"] = "water"
        # which texts and files are structures, the description cannot say
        case.call_and_validate(excluded_checks=[checks.positive_data_acceptance])

    check()
