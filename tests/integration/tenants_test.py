"""Two projects on one server: whatever one tenant calls, it finds, learns and changes nothing of the other's."""

import json
import pathlib
import tempfile
import time
import unittest

import grpc

from auth_test import new_token, reason
from harness import Server, cli
from stubs import admin, admin_grpc, dataset, model, service, service_grpc, tensor, training

NOT_FOUND, OK = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OK
ROWS = 4


def batch():
    return tensor.Batch(inputs=tensor.Tensor(shape=[ROWS, 2], values=[0, 0, 0, 1, 1, 0, 1, 1]),
                        labels=tensor.Tensor(shape=[ROWS], values=[0, 1, 1, 0]))


def spec():
    return model.ModelSpec(input_size=2, layers=[model.Layer(units=8), model.Layer(units=2)])


class Tenant:
    """The calls of one principal."""

    def __init__(self, address, token):
        self.channel = grpc.insecure_channel(address)
        self.metadata = [("authorization", f"Bearer {token}")]
        self.training = service_grpc.TrainingServiceStub(self.channel)
        self.admin = admin_grpc.AdminServiceStub(self.channel)

    def call(self, method, request, stub=None):
        """The responses, and the code of the call."""
        rpc = getattr(stub or self.training, method)
        try:
            result = rpc(request, metadata=self.metadata, timeout=30)
            return ([result] if hasattr(result, "SerializeToString") else list(result)), OK, ""
        except grpc.RpcError as error:
            return [], error.code(), error.details()


def upload(dataset_id):
    yield service.UploadDatasetRequest(header=dataset.DatasetHeader(dataset_id=dataset_id, request_id="upload"))
    yield service.UploadDatasetRequest(chunk=dataset.DatasetChunk(first_row=0, rows=batch()))
    yield service.UploadDatasetRequest(commit=dataset.DatasetCommit(rows=ROWS))


# Calls that name what the other tenant has: they get the error of a name that nobody has.
CALLS_BY_NAME = {
    "GetModel": lambda: service.GetModelRequest(name="models/m"),
    "DeleteModel": lambda: service.DeleteModelRequest(name="models/m"),
    "Train": lambda: service.TrainRequest(model="models/m", data=batch(),
                                          config=training.TrainingConfig(iterations=3)),
    "WatchTraining": lambda: service.WatchTrainingRequest(model="models/m"),
    "StopTraining": lambda: service.StopTrainingRequest(model="models/m"),
    "Step": lambda: service.StepRequest(model="models/m", batch=batch()),
    "ComputeGradients": lambda: service.ComputeGradientsRequest(model="models/m", batch=batch()),
    "ApplyGradients": lambda: service.ApplyGradientsRequest(model="models/m"),
    "Predict": lambda: service.PredictRequest(model="models/m", inputs=batch().inputs),
    "Evaluate": lambda: service.EvaluateRequest(model="models/m", data=batch()),
    "GradCheck": lambda: service.GradCheckRequest(model="models/m", batch=batch()),
    "GetParameters": lambda: service.GetParametersRequest(model="models/m"),
    "SetParameters": lambda: service.SetParametersRequest(model="models/m"),
    "CreateCheckpoint": lambda: service.CreateCheckpointRequest(model="models/m", checkpoint_id="d"),
    "ListCheckpoints": lambda: service.ListCheckpointsRequest(model="models/m"),
    "RestoreCheckpoint": lambda: service.RestoreCheckpointRequest(name="models/m/checkpoints/c"),
    "DeleteCheckpoint": lambda: service.DeleteCheckpointRequest(name="models/m/checkpoints/c"),
    "ExportModel": lambda: service.ExportModelRequest(model="models/m"),
    "GetDataset": lambda: service.GetDatasetRequest(name="datasets/d"),
    "DeleteDataset": lambda: service.DeleteDatasetRequest(name="datasets/d"),
}
# Each of the others has a test of its own below.
OTHER_CALLS = {"CreateModel", "ListModels", "StepStream", "ImportModel", "UploadDataset", "ListDatasets"}


class TenantsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name)
        tokens, principals = zip(*(new_token(name, "admin" if name == "b" else "writer", project) for name, project in
                                   (("a", "alpha"), ("b", "beta"))))
        operator, principal = new_token("o", "operator", "alpha")
        self.auth_file = path / "auth.json"
        self.principals = [*principals, principal]
        self.write_auth_file()
        self.data = path / "data"
        self.flags = ("--auth-file", str(self.auth_file), "--data-dir", str(self.data), "--log-level", "warn")
        server = Server(*self.flags)
        self.server = server.__enter__()
        self.addCleanup(lambda: server.__exit__(None, None, None))
        self.a, self.b, self.operator = (Tenant(self.server.address, t) for t in (*tokens, operator))
        for tenant in (self.a, self.b, self.operator):
            self.addCleanup(tenant.channel.close)

    def write_auth_file(self, **quotas):
        new = self.auth_file.with_suffix(".new")
        new.write_text(json.dumps({"principals": self.principals, "projects": [
            {"name": "alpha", "quotas": quotas}, {"name": "beta"}]}))
        new.rename(self.auth_file)

    def expect(self, outcome, code=OK):
        self.assertEqual(outcome[1], code, outcome[2])
        return outcome[0]

    def fill(self, tenant):
        self.expect(tenant.call("CreateModel", service.CreateModelRequest(model_id="m", spec=spec(), request_id="r")))
        self.expect(tenant.call("Step", service.StepRequest(model="models/m", batch=batch(), request_id="s")))
        self.expect(tenant.call("CreateCheckpoint",
                                service.CreateCheckpointRequest(model="models/m", checkpoint_id="c")))
        self.expect(tenant.call("UploadDataset", upload("d")))

    def state(self, tenant):
        """All that a tenant can read of its resources."""
        return [[reply.SerializeToString(deterministic=True) for reply in self.expect(tenant.call(*call))] for call in (
            ("GetModel", service.GetModelRequest(name="models/m")),
            ("GetParameters", service.GetParametersRequest(model="models/m")),
            ("ListModels", service.ListModelsRequest()),
            ("ListDatasets", service.ListDatasetsRequest()),
            ("ListCheckpoints", service.ListCheckpointsRequest(model="models/m")))]

    def test_every_rpc_is_tried(self):
        methods = {m.name for m in service.DESCRIPTOR.services_by_name["TrainingService"].methods}
        self.assertEqual(methods, CALLS_BY_NAME.keys() | OTHER_CALLS)

    def test_names_of_another_tenant_are_unknown_and_nothing_is_changed(self):
        self.fill(self.a)
        before = self.state(self.a)
        for method, request in CALLS_BY_NAME.items():
            with self.subTest(method):
                _, code, message = self.b.call(method, request())
                self.assertEqual(code, NOT_FOUND, message)
                # The same error as for a name that nobody has.
                missing = request()
                for field in ("name", "model"):
                    if field in missing.DESCRIPTOR.fields_by_name:
                        setattr(missing, field, getattr(missing, field).replace("s/m", "s/z").replace("s/d", "s/z"))
                _, other_code, other_message = self.b.call(method, missing)
                self.assertEqual(code, other_code)
                self.assertEqual(message.replace("models/m", "models/z").replace("datasets/d", "datasets/z"),
                                 other_message)
                self.assertNotIn("alpha", message)
        self.assertEqual(self.state(self.a), before)

    def test_lists_and_pages_hold_only_ones_own(self):
        self.fill(self.a)
        for page_token in ("", "a", "l", "zz"):
            for method, request, field in (("ListModels", service.ListModelsRequest, "models"),
                                           ("ListDatasets", service.ListDatasetsRequest, "datasets")):
                reply, = self.expect(self.b.call(method, request(page_token=page_token)))
                self.assertEqual(len(getattr(reply, field)), 0)
                self.assertEqual(reply.next_page_token, "")
        for page_token in ("alpha/", "alpha/m", "/", "alpha"):
            _, code, _ = self.b.call("ListModels", service.ListModelsRequest(page_token=page_token))
            self.assertIn(code, (OK, grpc.StatusCode.INVALID_ARGUMENT))

    def test_names_do_not_reach_into_another_project(self):
        self.fill(self.a)
        for name in ("models/alpha/m", "alpha/models/m", "projects/alpha/models/m", "models/../alpha/m"):
            _, code, message = self.b.call("GetModel", service.GetModelRequest(name=name))
            self.assertEqual(code, grpc.StatusCode.INVALID_ARGUMENT, message)
        _, code, _ = self.b.call("CreateModel", service.CreateModelRequest(model_id="alpha/x", spec=spec()))
        self.assertEqual(code, grpc.StatusCode.INVALID_ARGUMENT)

    def test_the_same_ids_and_request_ids_are_two_things(self):
        self.fill(self.a)
        before = self.state(self.a)
        self.fill(self.b)  # the same ids, request ids and contents: no retry of the other's
        self.assertEqual(self.state(self.a), before)
        self.expect(self.b.call("Step", service.StepRequest(model="models/m", batch=batch())))
        self.expect(self.b.call("DeleteDataset", service.DeleteDatasetRequest(name="datasets/d", request_id="x")))
        self.expect(self.b.call("DeleteModel", service.DeleteModelRequest(name="models/m", request_id="x")))
        self.assertEqual(self.state(self.a), before)
        # The same request of the first tenant is not taken for a retry of the second one's.
        self.expect(self.a.call("DeleteDataset", service.DeleteDatasetRequest(name="datasets/d", request_id="x")))
        self.expect(self.a.call("DeleteModel", service.DeleteModelRequest(name="models/m", request_id="x")))
        self.expect(self.a.call("GetModel", service.GetModelRequest(name="models/m")), NOT_FOUND)
        self.expect(self.a.call("GetDataset", service.GetDatasetRequest(name="datasets/d")), NOT_FOUND)

    def test_datasets_of_another_tenant_cannot_be_used(self):
        self.fill(self.a)
        self.expect(self.b.call("CreateModel", service.CreateModelRequest(model_id="mine", spec=spec())))
        for method, request in (
                ("Train", service.TrainRequest(model="models/mine", dataset="datasets/d",
                                               config=training.TrainingConfig(iterations=3))),
                ("Evaluate", service.EvaluateRequest(model="models/mine", dataset="datasets/d"))):
            _, code, message = self.b.call(method, request)
            self.assertEqual(code, NOT_FOUND, message)

    def test_steps_of_a_stream_do_not_find_models_of_another_tenant(self):
        self.fill(self.a)
        before = self.state(self.a)
        replies = self.expect(self.b.call("StepStream", iter(
            [service.StepStreamRequest(step=service.StepRequest(model="models/m", batch=batch()))] * 2)))
        self.assertEqual([reply.error.code for reply in replies], [NOT_FOUND.value[0]] * 2)
        self.assertEqual(self.state(self.a), before)

    def test_an_import_creates_ones_own_model(self):
        self.fill(self.a)
        before = self.state(self.a)
        file = b"".join(reply.data for reply in
                        self.expect(self.a.call("ExportModel", service.ExportModelRequest(model="models/m"))))
        self.expect(self.b.call("ImportModel", iter([service.ImportModelRequest(model_id="m", data=file)])))
        self.expect(self.b.call("Step", service.StepRequest(model="models/m", batch=batch())))
        self.assertEqual(self.state(self.a), before)

    def test_a_run_of_a_tenant_resumes_in_its_project(self):
        self.fill(self.a)
        self.fill(self.b)
        run = self.a.training.Train(service.TrainRequest(model="models/m", dataset="datasets/d", detach=True,
                                                         config=training.TrainingConfig(iterations=10**9)),
                                    metadata=self.a.metadata)
        next(run)
        run.cancel()
        self.server.process.kill()
        self.server.expect_exit = self.server.process.wait()
        with Server(*self.flags) as server:
            a = Tenant(server.address, self.a.metadata[0][1].removeprefix("Bearer "))
            b = Tenant(server.address, self.b.metadata[0][1].removeprefix("Bearer "))
            self.addCleanup(a.channel.close)
            self.addCleanup(b.channel.close)
            described, = self.expect(a.call("GetModel", service.GetModelRequest(name="models/m")))
            self.assertEqual(described.model.active_run, "models/m/runs/1")
            described, = self.expect(b.call("GetModel", service.GetModelRequest(name="models/m")))
            self.assertEqual(described.model.active_run, "")
            self.expect(b.call("StopTraining", service.StopTrainingRequest(model="models/m")),
                        grpc.StatusCode.FAILED_PRECONDITION)
            self.expect(a.call("DeleteDataset", service.DeleteDatasetRequest(name="datasets/d")),
                        grpc.StatusCode.FAILED_PRECONDITION)
            self.expect(b.call("DeleteDataset", service.DeleteDatasetRequest(name="datasets/d")))
            self.expect(a.call("StopTraining", service.StopTrainingRequest(model="models/m")))

    # Quotas.

    def test_quotas_limit_one_tenant_and_change_with_the_file(self):
        self.write_auth_file(models=1)
        deadline = time.monotonic() + 20
        while not any(quota.limit == 1 for quota in self.project("alpha").quotas if quota.quota == "models"):
            self.assertLess(time.monotonic(), deadline, "the quota is never applied")
            time.sleep(0.02)
        self.fill(self.a)
        _, code, message = self.a.call("CreateModel", service.CreateModelRequest(model_id="n", spec=spec()))
        self.assertEqual(code, grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(message, "project alpha: the quota of models is 1, and 1 are in use")
        self.expect(self.b.call("CreateModel", service.CreateModelRequest(model_id="n", spec=spec())))
        use = {quota.quota: quota.used for quota in self.project("alpha").quotas}
        self.assertEqual((use["models"], use["concurrent_runs"]), (1, 0))
        self.assertEqual(use["parameters"], 42)

    def test_the_rate_of_requests_is_limited_for_one_tenant(self):
        self.fill(self.a)
        self.write_auth_file(requests_per_second=2)
        refused = []

        def rejected():
            try:
                self.a.training.GetModel(service.GetModelRequest(name="models/m"), metadata=self.a.metadata, timeout=30)
            except grpc.RpcError as error:
                refused.append(error)
            return bool(refused)

        deadline = time.monotonic() + 20
        while not rejected():
            self.assertLess(time.monotonic(), deadline, "the rate is never limited")
        self.assertEqual(refused[0].code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(reason(refused[0]), "QUOTA_EXCEEDED")
        details = dict(refused[0].trailing_metadata())["grpc-status-details-bin"]
        self.assertIn(b"google.rpc.RetryInfo", details)
        for _ in range(20):
            self.expect(self.b.call("ListModels", service.ListModelsRequest()))

    def project(self, name):
        reply, = self.expect(self.operator.call("GetProject", admin.GetProjectRequest(name=f"projects/{name}"),
                                                self.operator.admin))
        return reply.project

    def test_administrators_see_their_project_and_operators_all(self):
        def seen(tenant):
            reply, = self.expect(tenant.call("ListProjects", admin.ListProjectsRequest(), tenant.admin))
            return [project.name for project in reply.projects]

        self.assertEqual(seen(self.operator), ["projects/alpha", "projects/beta"])
        self.assertEqual(seen(self.b), ["projects/beta"])
        _, code, message = self.b.call("GetProject", admin.GetProjectRequest(name="projects/alpha"), self.b.admin)
        _, missing_code, missing = self.b.call("GetProject", admin.GetProjectRequest(name="projects/gamma"),
                                               self.b.admin)
        self.assertEqual((code, missing_code), (NOT_FOUND, NOT_FOUND))
        self.assertEqual(message.replace("alpha", "gamma"), missing)
        self.expect(self.a.call("ListProjects", admin.ListProjectsRequest(), self.a.admin),
                    grpc.StatusCode.PERMISSION_DENIED)


if __name__ == "__main__":
    unittest.main()
