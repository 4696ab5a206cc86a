"""Two projects on one server: whatever one tenant calls, it finds, learns and changes nothing of the other's."""

import json
import pathlib
import tempfile
import time
import unittest

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from auth_test import eventually, new_token, reason
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


def large_batch(rows=1000):
    return tensor.Batch(inputs=tensor.Tensor(shape=[rows, 2], values=[0.5] * 2 * rows),
                        labels=tensor.Tensor(shape=[rows], values=[1] * rows))


def retry_delay(error):
    """The seconds after which the server asks to try again."""
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay.ToTimedelta().total_seconds()
    raise AssertionError(f"no RetryInfo: {error}")


def upload(dataset_id, rows=None):
    rows = rows or batch()
    yield service.UploadDatasetRequest(header=dataset.DatasetHeader(dataset_id=dataset_id, request_id="upload"))
    yield service.UploadDatasetRequest(chunk=dataset.DatasetChunk(first_row=0, rows=rows))
    yield service.UploadDatasetRequest(commit=dataset.DatasetCommit(rows=rows.inputs.shape[0]))


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

    def quotas_of(self, name):
        return {quota.quota: quota for quota in self.project(name).quotas}

    def set_quotas(self, **quotas):
        """Writes them, and waits until they hold."""
        self.write_auth_file(**quotas)
        eventually(lambda: all(self.quotas_of("alpha")[name].limit == limit for name, limit in quotas.items()),
                   "the quotas are applied")

    def refused(self, call, quota):
        """The details of the refusal of a call; the other tenant is not concerned."""
        _, code, message = call(self.a)
        self.assertEqual(code, grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        self.assertIn(f"project alpha: the quota of {quota} is ", message)
        self.expect(call(self.b))
        return message

    def test_stored_bytes_are_counted_limited_and_the_same_after_a_restart(self):
        used = lambda: self.quotas_of("alpha")["stored_bytes"].used  # noqa: E731
        self.assertEqual(used(), 0)
        self.fill(self.a)
        self.fill(self.b)
        before = used()
        self.assertGreater(before, 42 * 4 + 16, "parameters, a checkpoint, rows")
        # The same things; the names of the projects are in keys.
        self.assertAlmostEqual(before, self.quotas_of("beta")["stored_bytes"].used, delta=30)
        self.set_quotas(stored_bytes=before + 100)
        for method, request in (
                ("CreateModel", lambda: service.CreateModelRequest(model_id="n", spec=spec())),
                ("CreateCheckpoint", lambda: service.CreateCheckpointRequest(model="models/m", checkpoint_id="e")),
                ("Train", lambda: service.TrainRequest(model="models/m", data=large_batch(), detach=True,
                                                       config=training.TrainingConfig(iterations=1))),
                ("UploadDataset", lambda: upload("e", large_batch()))):
            with self.subTest(method):
                message = self.refused(lambda tenant: tenant.call(method, request()), "stored_bytes")
                self.assertIn(f"is {before + 100}, and ", message)
        # What exists can be used and trained, and takes no more space.
        for _ in range(100):
            self.expect(self.a.call("Step", service.StepRequest(model="models/m", batch=batch())))
        self.assertLessEqual(used(), before + 100)
        self.set_quotas(stored_bytes=10**9)
        self.expect(self.a.call("CreateModel", service.CreateModelRequest(model_id="n", spec=spec())))
        before = used()
        self.server.process.terminate()
        self.server.process.wait()
        with Server(*self.flags) as server:
            operator = Tenant(server.address, self.operator.metadata[0][1].removeprefix("Bearer "))
            a = Tenant(server.address, self.a.metadata[0][1].removeprefix("Bearer "))
            self.addCleanup(operator.channel.close)
            self.addCleanup(a.channel.close)
            self.operator = operator
            eventually(lambda: used() == before, "stored records are counted again")
            for name in ("models/m", "models/n"):
                self.expect(a.call("DeleteModel", service.DeleteModelRequest(name=name)))
            self.expect(a.call("DeleteDataset", service.DeleteDatasetRequest(name="datasets/d")))
            self.assertEqual(used(), 0)

    def test_the_rate_of_rows_is_limited_for_one_tenant(self):
        self.fill(self.a)
        self.fill(self.b)
        self.set_quotas(rows_per_second=10)
        requests = {
            "Step": lambda: service.StepRequest(model="models/m", batch=batch()),
            "Predict": lambda: service.PredictRequest(model="models/m", inputs=batch().inputs),
            "Evaluate": lambda: service.EvaluateRequest(model="models/m", dataset="datasets/d"),
            "ComputeGradients": lambda: service.ComputeGradientsRequest(model="models/m", batch=batch()),
            "GradCheck": lambda: service.GradCheckRequest(model="models/m", batch=batch())}
        # More rows than those of a second are admitted, and no other ones for 99 seconds.
        self.expect(self.a.call("Step", service.StepRequest(model="models/m", batch=large_batch(1000))))
        for method, request in requests.items():
            with self.subTest(method):
                self.refused(lambda tenant: tenant.call(method, request()), "rows_per_second")
        replies = self.expect(self.a.call("StepStream", iter([service.StepStreamRequest(step=requests["Step"]())])))
        self.assertEqual(replies[0].error.code, grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
        self.assertIn("rows_per_second", replies[0].error.message)
        self.expect(self.a.call("GetModel", service.GetModelRequest(name="models/m")))
        self.set_quotas(rows_per_second=100)
        with self.assertRaises(grpc.RpcError) as refused:
            self.a.training.Predict(requests["Predict"](), metadata=self.a.metadata, timeout=30)
        wait = retry_delay(refused.exception)
        self.assertTrue(0 < wait < 11, wait)
        time.sleep(wait)
        self.expect(self.a.call("Predict", requests["Predict"]()))

    def test_bytes_in_flight_are_limited_for_one_tenant_before_they_are_parsed(self):
        self.fill(self.a)
        self.fill(self.b)
        self.set_quotas(bytes_in_flight=65536)
        malformed = b"\xff" * 70000
        for tenant, code in ((self.a, grpc.StatusCode.RESOURCE_EXHAUSTED), (self.b, grpc.StatusCode.INVALID_ARGUMENT)):
            for method in ("Step", "Predict", "Train", "StepStream", "UploadDataset"):
                with self.subTest(method), self.assertRaises(grpc.RpcError) as refused:
                    call = tenant.channel.stream_stream(f"/backprop.v1.TrainingService/{method}")
                    list(call(iter([malformed]), metadata=tenant.metadata, timeout=30))
                self.assertEqual(refused.exception.code(), code, refused.exception.details())
        large = service.PredictRequest(model="models/m", inputs=large_batch(10000).inputs)
        message = self.refused(lambda tenant: tenant.call("Predict", large), "bytes_in_flight")
        self.assertIn(f"{large.ByteSize()} more are needed", message)
        # A stream that has sent nothing holds nothing, and steps are released with their responses.
        steps = (service.StepStreamRequest(step=service.StepRequest(model="models/m", batch=batch()))
                 for _ in range(200))
        replies = self.expect(self.a.call("StepStream", steps))
        self.assertTrue(all(reply.HasField("step") for reply in replies) and len(replies) == 200)
        eventually(lambda: self.quotas_of("alpha")["bytes_in_flight"].used < 100, "bytes are released")

    # Backups of one project.

    def backup(self, tenant, project):
        replies, code, message = tenant.call("CreateBackup", admin.CreateBackupRequest(project=project), tenant.admin)
        return b"".join(reply.data for reply in replies), code, message

    def test_an_administrator_backs_up_the_own_project_and_it_is_restored_with_all_it_holds(self):
        self.fill(self.a)
        self.fill(self.b)
        self.expect(self.b.call("Step", service.StepRequest(model="models/m", batch=batch())))
        before = self.state(self.b)
        file = self.expect_backup(self.b, "projects/beta")
        self.assertEqual(file, self.expect_backup(self.operator, "projects/beta"))
        self.assertNotIn(b"alpha", file)
        self.assertIn(b"alpha", self.expect_backup(self.operator, ""))
        for tenant, project, expected in (
                (self.b, "", grpc.StatusCode.PERMISSION_DENIED), (self.b, "projects/alpha", NOT_FOUND),
                (self.b, "projects/gamma", NOT_FOUND), (self.operator, "projects/gamma", NOT_FOUND),
                (self.operator, "beta", grpc.StatusCode.INVALID_ARGUMENT),
                (self.a, "projects/alpha", grpc.StatusCode.PERMISSION_DENIED)):
            with self.subTest(project):
                _, code, message = self.backup(tenant, project)
                self.assertEqual(code, expected, message)
        path = pathlib.Path(self.data.parent)
        saved = cli("backup", path / "beta.backup", "--project", "beta", server=self.server.address,
                    env={"BACKPROP_TOKEN": self.b.metadata[0][1].removeprefix("Bearer ")})
        self.assertEqual(saved.returncode, 0, saved.stderr)
        self.assertEqual((path / "beta.backup").read_bytes(), file)
        flags = ("--auth-file", str(self.auth_file), "--data-dir", str(path / "new"))
        with Server(*flags) as server:
            for token, code in ((self.b, grpc.StatusCode.PERMISSION_DENIED), (self.operator, OK)):
                tenant = Tenant(server.address, token.metadata[0][1].removeprefix("Bearer "))
                self.addCleanup(tenant.channel.close)
                restored = tenant.call("RestoreBackup", iter([admin.RestoreBackupRequest(data=file)]), tenant.admin)
                self.assertEqual(restored[1], code, restored[2])
            b = Tenant(server.address, self.b.metadata[0][1].removeprefix("Bearer "))
            a = Tenant(server.address, self.a.metadata[0][1].removeprefix("Bearer "))
            self.addCleanup(b.channel.close)
            self.addCleanup(a.channel.close)
            self.assertEqual(self.state(b), before)
            # A retry of a creation of before gets its first answer.
            self.expect(b.call("CreateModel", service.CreateModelRequest(model_id="m", spec=spec(), request_id="r")))
            self.expect(a.call("GetModel", service.GetModelRequest(name="models/m")), NOT_FOUND)

    def expect_backup(self, tenant, project):
        file, code, message = self.backup(tenant, project)
        self.assertEqual(code, OK, message)
        return file

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
