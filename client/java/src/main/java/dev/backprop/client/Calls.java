package dev.backprop.client;

import com.google.protobuf.Empty;
import dev.backprop.v1.AdminServiceGrpc;
import dev.backprop.v1.ApplyGradientsRequest;
import dev.backprop.v1.ApplyGradientsResponse;
import dev.backprop.v1.Checkpoint;
import dev.backprop.v1.ComputeGradientsRequest;
import dev.backprop.v1.ComputeGradientsResponse;
import dev.backprop.v1.CreateCheckpointRequest;
import dev.backprop.v1.CreateCheckpointResponse;
import dev.backprop.v1.CreateModelRequest;
import dev.backprop.v1.CreateModelResponse;
import dev.backprop.v1.Dataset;
import dev.backprop.v1.DeleteCheckpointRequest;
import dev.backprop.v1.DeleteCheckpointResponse;
import dev.backprop.v1.DeleteDatasetRequest;
import dev.backprop.v1.DeleteDatasetResponse;
import dev.backprop.v1.DeleteModelRequest;
import dev.backprop.v1.DeleteModelResponse;
import dev.backprop.v1.EvaluateRequest;
import dev.backprop.v1.EvaluateResponse;
import dev.backprop.v1.GetDatasetRequest;
import dev.backprop.v1.GetDatasetResponse;
import dev.backprop.v1.GetModelRequest;
import dev.backprop.v1.GetModelResponse;
import dev.backprop.v1.GetParametersRequest;
import dev.backprop.v1.GetParametersResponse;
import dev.backprop.v1.GetProjectRequest;
import dev.backprop.v1.GetProjectResponse;
import dev.backprop.v1.GetServerStatusRequest;
import dev.backprop.v1.GetServerStatusResponse;
import dev.backprop.v1.GradCheckConfig;
import dev.backprop.v1.GradCheckRequest;
import dev.backprop.v1.GradCheckResponse;
import dev.backprop.v1.GradCheckResult;
import dev.backprop.v1.ListCheckpointsRequest;
import dev.backprop.v1.ListCheckpointsResponse;
import dev.backprop.v1.ListDatasetsRequest;
import dev.backprop.v1.ListDatasetsResponse;
import dev.backprop.v1.ListModelsRequest;
import dev.backprop.v1.ListModelsResponse;
import dev.backprop.v1.ListProjectsRequest;
import dev.backprop.v1.ListProjectsResponse;
import dev.backprop.v1.Model;
import dev.backprop.v1.ModelSpec;
import dev.backprop.v1.PredictOutput;
import dev.backprop.v1.PredictRequest;
import dev.backprop.v1.PredictResponse;
import dev.backprop.v1.Project;
import dev.backprop.v1.RestoreCheckpointRequest;
import dev.backprop.v1.RestoreCheckpointResponse;
import dev.backprop.v1.ServerStatus;
import dev.backprop.v1.ServerStatusView;
import dev.backprop.v1.SetParametersRequest;
import dev.backprop.v1.SetParametersResponse;
import dev.backprop.v1.StepRequest;
import dev.backprop.v1.StepResponse;
import dev.backprop.v1.StopTrainingRequest;
import dev.backprop.v1.StopTrainingResponse;
import dev.backprop.v1.TensorEncoding;
import dev.backprop.v1.TrainRequest;
import dev.backprop.v1.TrainingServiceGrpc;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthGrpc;
import java.util.Arrays;
import java.util.Map;
import java.util.Objects;
import java.util.OptionalLong;

/** The unary calls, for the blocking and the asynchronous client. Names and ids are checked here. */
final class Calls {
  private Calls() {}

  static Call<CreateModelRequest, CreateModelResponse, Model> createModel(
      Options options, ModelSpec spec, CreateOptions create) {
    var request =
        CreateModelRequest.newBuilder()
            .setModelId(create.modelId())
            .setSpec(Objects.requireNonNull(spec, "spec"))
            .putAllLabels(create.labels())
            .setDurability(create.durability())
            .setRequestId(options.newRequestId());
    if (create.ttl() != null) request.setTtl(Messages.duration(create.ttl()));
    if (create.initialParameters() != null) {
      request.setInitialParameters(create.initialParameters().message());
    }
    return new Call<>(
        TrainingServiceGrpc.getCreateModelMethod(),
        request.build(),
        CreateModelResponse::getModel);
  }

  static Call<GetModelRequest, GetModelResponse, Model> getModel(String model) {
    return new Call<>(
        TrainingServiceGrpc.getGetModelMethod(),
        GetModelRequest.newBuilder().setName(Names.model(model)).build(),
        GetModelResponse::getModel);
  }

  static Call<ListModelsRequest, ListModelsResponse, ListModelsResponse> listModels(
      Map<String, String> labels, int pageSize, String pageToken) {
    return new Call<>(
        TrainingServiceGrpc.getListModelsMethod(),
        ListModelsRequest.newBuilder()
            .putAllLabels(labels)
            .setPageSize(pageSize)
            .setPageToken(pageToken)
            .build(),
        page -> page);
  }

  static Call<DeleteModelRequest, DeleteModelResponse, Empty> deleteModel(
      Options options, String model) {
    return new Call<>(
        TrainingServiceGrpc.getDeleteModelMethod(),
        DeleteModelRequest.newBuilder()
            .setName(Names.model(model))
            .setRequestId(options.newRequestId())
            .build(),
        response -> Empty.getDefaultInstance());
  }

  static TrainRequest trainRequest(Options options, String model, Rows rows, TrainOptions train) {
    var request =
        TrainRequest.newBuilder()
            .setModel(Names.model(model))
            .setConfig(train.config())
            .setDetach(train.detached())
            .setWait(train.waiting())
            .setRequestId(options.newRequestId());
    if (rows instanceof Batch batch) {
      request.setData(batch.message());
    } else {
      request.setDataset(((DatasetRef) rows).name());
    }
    if (train.validation() instanceof Batch batch) {
      request.setValidation(batch.message());
    } else if (train.validation() instanceof DatasetRef dataset) {
      request.setValidationDataset(dataset.name());
    }
    return request.build();
  }

  static Call<StopTrainingRequest, StopTrainingResponse, StopTrainingResponse> stopTraining(
      Options options, String model) {
    return new Call<>(
        TrainingServiceGrpc.getStopTrainingMethod(),
        StopTrainingRequest.newBuilder()
            .setModel(Names.model(model))
            .setRequestId(options.newRequestId())
            .build(),
        response -> response);
  }

  static StepRequest stepRequest(
      String model, Batch batch, OptionalLong expectedStep, String requestId) {
    var request =
        StepRequest.newBuilder()
            .setModel(Names.model(model))
            .setBatch(batch.message())
            .setRequestId(requestId);
    expectedStep.ifPresent(request::setExpectedStep);
    return request.build();
  }

  static Call<StepRequest, StepResponse, StepResult> step(
      Options options, String model, Batch batch, OptionalLong expectedStep) {
    return new Call<>(
        TrainingServiceGrpc.getStepMethod(),
        stepRequest(model, batch, expectedStep, options.newRequestId()),
        Messages::step);
  }

  static Call<ComputeGradientsRequest, ComputeGradientsResponse, Gradients> computeGradients(
      String model, Batch batch) {
    return new Call<>(
        TrainingServiceGrpc.getComputeGradientsMethod(),
        ComputeGradientsRequest.newBuilder()
            .setModel(Names.model(model))
            .setBatch(batch.message())
            .setEncoding(TensorEncoding.TENSOR_ENCODING_RAW)
            .build(),
        Messages::gradients);
  }

  static Call<ApplyGradientsRequest, ApplyGradientsResponse, ApplyGradientsResponse>
      applyGradients(
          Options options, String model, Map<String, Tensor> gradients, OptionalLong expectedStep) {
    var request =
        ApplyGradientsRequest.newBuilder()
            .setModel(Names.model(model))
            .addAllGradients(Messages.named(gradients))
            .setRequestId(options.newRequestId());
    expectedStep.ifPresent(request::setExpectedStep);
    return new Call<>(
        TrainingServiceGrpc.getApplyGradientsMethod(), request.build(), response -> response);
  }

  static Call<PredictRequest, PredictResponse, Prediction> predict(
      String model, Tensor inputs, PredictOutput... outputs) {
    return new Call<>(
        TrainingServiceGrpc.getPredictMethod(),
        PredictRequest.newBuilder()
            .setModel(Names.model(model))
            .setInputs(inputs.message())
            .addAllOutputs(Arrays.asList(outputs))
            .build(),
        Messages::prediction);
  }

  static Call<EvaluateRequest, EvaluateResponse, EvaluateResponse> evaluate(
      String model, Rows rows) {
    var request = EvaluateRequest.newBuilder().setModel(Names.model(model));
    if (rows instanceof Batch batch) {
      request.setData(batch.message());
    } else {
      request.setDataset(((DatasetRef) rows).name());
    }
    return new Call<>(
        TrainingServiceGrpc.getEvaluateMethod(), request.build(), response -> response);
  }

  static Call<GradCheckRequest, GradCheckResponse, GradCheckResult> gradCheck(
      String model, Batch batch, GradCheckConfig config) {
    return new Call<>(
        TrainingServiceGrpc.getGradCheckMethod(),
        GradCheckRequest.newBuilder()
            .setModel(Names.model(model))
            .setBatch(batch.message())
            .setConfig(config)
            .build(),
        GradCheckResponse::getResult);
  }

  static Call<GetParametersRequest, GetParametersResponse, ModelParameters> getParameters(
      String model) {
    return new Call<>(
        TrainingServiceGrpc.getGetParametersMethod(),
        GetParametersRequest.newBuilder()
            .setModel(Names.model(model))
            .setEncoding(TensorEncoding.TENSOR_ENCODING_RAW)
            .build(),
        response -> ModelParameters.of(response.getParameters()));
  }

  static Call<SetParametersRequest, SetParametersResponse, Long> setParameters(
      Options options, String model, ModelParameters parameters, OptionalLong expectedStep) {
    var request =
        SetParametersRequest.newBuilder()
            .setModel(Names.model(model))
            .setParameters(parameters.message())
            .setRequestId(options.newRequestId());
    expectedStep.ifPresent(request::setExpectedStep);
    return new Call<>(
        TrainingServiceGrpc.getSetParametersMethod(),
        request.build(),
        SetParametersResponse::getStep);
  }

  static Call<CreateCheckpointRequest, CreateCheckpointResponse, Checkpoint> createCheckpoint(
      Options options, String model, String checkpointId) {
    return new Call<>(
        TrainingServiceGrpc.getCreateCheckpointMethod(),
        CreateCheckpointRequest.newBuilder()
            .setModel(Names.model(model))
            .setCheckpointId(Names.required("checkpoint_id", checkpointId))
            .setRequestId(options.newRequestId())
            .build(),
        CreateCheckpointResponse::getCheckpoint);
  }

  static Call<ListCheckpointsRequest, ListCheckpointsResponse, ListCheckpointsResponse>
      listCheckpoints(String model, String pageToken) {
    return new Call<>(
        TrainingServiceGrpc.getListCheckpointsMethod(),
        ListCheckpointsRequest.newBuilder()
            .setModel(Names.model(model))
            .setPageToken(pageToken)
            .build(),
        page -> page);
  }

  static Call<RestoreCheckpointRequest, RestoreCheckpointResponse, Long> restoreCheckpoint(
      Options options, String model, String checkpoint, OptionalLong expectedStep) {
    var request =
        RestoreCheckpointRequest.newBuilder()
            .setName(Names.checkpoint(model, checkpoint))
            .setRequestId(options.newRequestId());
    expectedStep.ifPresent(request::setExpectedStep);
    return new Call<>(
        TrainingServiceGrpc.getRestoreCheckpointMethod(),
        request.build(),
        RestoreCheckpointResponse::getStep);
  }

  static Call<DeleteCheckpointRequest, DeleteCheckpointResponse, Empty> deleteCheckpoint(
      Options options, String model, String checkpoint) {
    return new Call<>(
        TrainingServiceGrpc.getDeleteCheckpointMethod(),
        DeleteCheckpointRequest.newBuilder()
            .setName(Names.checkpoint(model, checkpoint))
            .setRequestId(options.newRequestId())
            .build(),
        response -> Empty.getDefaultInstance());
  }

  static Call<GetDatasetRequest, GetDatasetResponse, Dataset> getDataset(String dataset) {
    return new Call<>(
        TrainingServiceGrpc.getGetDatasetMethod(),
        GetDatasetRequest.newBuilder().setName(Names.dataset(dataset)).build(),
        GetDatasetResponse::getDataset);
  }

  static Call<ListDatasetsRequest, ListDatasetsResponse, ListDatasetsResponse> listDatasets(
      String pageToken) {
    return new Call<>(
        TrainingServiceGrpc.getListDatasetsMethod(),
        ListDatasetsRequest.newBuilder().setPageToken(pageToken).build(),
        page -> page);
  }

  static Call<DeleteDatasetRequest, DeleteDatasetResponse, Empty> deleteDataset(
      Options options, String dataset) {
    return new Call<>(
        TrainingServiceGrpc.getDeleteDatasetMethod(),
        DeleteDatasetRequest.newBuilder()
            .setName(Names.dataset(dataset))
            .setRequestId(options.newRequestId())
            .build(),
        response -> Empty.getDefaultInstance());
  }

  static Call<GetServerStatusRequest, GetServerStatusResponse, ServerStatus> serverStatus(
      ServerStatusView view) {
    return new Call<>(
        AdminServiceGrpc.getGetServerStatusMethod(),
        GetServerStatusRequest.newBuilder().setView(view).build(),
        GetServerStatusResponse::getStatus);
  }

  static Call<GetProjectRequest, GetProjectResponse, Project> getProject(String project) {
    return new Call<>(
        AdminServiceGrpc.getGetProjectMethod(),
        GetProjectRequest.newBuilder().setName(Names.project(project)).build(),
        GetProjectResponse::getProject);
  }

  static Call<ListProjectsRequest, ListProjectsResponse, ListProjectsResponse> listProjects(
      String pageToken) {
    return new Call<>(
        AdminServiceGrpc.getListProjectsMethod(),
        ListProjectsRequest.newBuilder().setPageToken(pageToken).build(),
        page -> page);
  }

  static Call<HealthCheckRequest, HealthCheckResponse, Boolean> health(String service) {
    return new Call<>(
        HealthGrpc.getCheckMethod(),
        HealthCheckRequest.newBuilder().setService(service).build(),
        response -> response.getStatus() == HealthCheckResponse.ServingStatus.SERVING);
  }
}
