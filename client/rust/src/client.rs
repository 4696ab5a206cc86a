//! The client, and its calls with one response.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;

use crate::call::{BoxFuture, Call, Mutating, Paged, Rpc};
use crate::connection::{Builder, Credentials, RetryPolicy};
use crate::error::{Code, Error, Result};
use crate::files::{Download, DownloadRequest, FileSource, ImportModel, RestoreBackup};
use crate::proto::backprop::v1 as pb;
use crate::proto::grpc::health::v1 as health;
use crate::steps::{StepInput, Steps};
use crate::tensor::check_named;
use crate::training::{Data, Train, Watch};
use crate::upload::UploadDataset;
use crate::v1::*;

type TrainingStub = pb::training_service_client::TrainingServiceClient<Channel>;
type AdminStub = pb::admin_service_client::AdminServiceClient<Channel>;
type HealthStub = health::health_client::HealthClient<Channel>;

/// A connection to a server. Clones share it. Connects when the first call is made, and again when
/// the connection breaks.
///
/// A model is named `models/{id}` or just `{id}`; datasets and projects alike.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) channel: Channel,
    pub(crate) credentials: Credentials,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Duration,
}

impl Client {
    /// Configures a client of the server at `host:port` or `unix:path`.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder::new(address.into())
    }

    /// A client with all defaults: clear text, and the token in `BACKPROP_TOKEN` if there is one.
    /// Must be called in a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::build`].
    pub fn connect(address: impl Into<String>) -> Result<Client> {
        Client::builder(address).build()
    }

    pub(crate) fn training(&self) -> TrainingStub {
        TrainingStub::new(self.0.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    pub(crate) fn admin(&self) -> AdminStub {
        AdminStub::new(self.0.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    fn health_stub(&self) -> HealthStub {
        HealthStub::new(self.0.channel.clone())
    }

    /// Adds what each attempt needs to a request: the token, and the time that is left.
    pub(crate) fn request<T>(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<tonic::Request<T>> {
        let mut request = tonic::Request::new(message);
        if let Some(token) = self.0.credentials.header()? {
            request.metadata_mut().insert("authorization", token);
        }
        if let Some(at) = deadline {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::deadline());
            }
            request.set_timeout(left);
        }
        Ok(request)
    }

    /// Creates a model.
    pub fn create_model(&self, spec: impl Into<ModelSpec>) -> Call<CreateModelRequest> {
        let request = CreateModelRequest { spec: Some(spec.into()), ..Default::default() };
        Call::new(self, request)
    }

    /// Returns the description of a model.
    pub fn get_model(&self, model: impl AsRef<str>) -> Call<GetModelRequest> {
        Call::new(self, GetModelRequest { name: model_name(model) })
    }

    /// Lists models in order of name.
    pub fn list_models(&self) -> Call<ListModelsRequest> {
        Call::new(self, ListModelsRequest::default())
    }

    /// Deletes a model.
    pub fn delete_model(&self, model: impl AsRef<str>) -> Call<DeleteModelRequest> {
        let request = DeleteModelRequest { name: model_name(model), ..Default::default() };
        Call::new(self, request)
    }

    /// Trains a model on rows, or on a dataset ([`Data::dataset`]).
    pub fn train<'a>(&self, model: impl AsRef<str>, data: impl Into<Data>) -> Train<'a> {
        Train::new(self, model_name(model), data.into())
    }

    /// Follows the active run of a model, or the latest one if none is active.
    pub fn watch<'a>(&self, model: impl AsRef<str>) -> Watch<'a> {
        Watch::new(self, model_name(model))
    }

    /// Stops the active run of a model, and returns when it has ended.
    pub fn stop_training(&self, model: impl AsRef<str>) -> Call<StopTrainingRequest> {
        let request = StopTrainingRequest { model: model_name(model), ..Default::default() };
        Call::new(self, request)
    }

    /// Makes one optimiser step on one batch.
    pub fn step(&self, model: impl AsRef<str>, batch: Batch) -> Call<StepRequest> {
        let request =
            StepRequest { model: model_name(model), batch: Some(batch), ..Default::default() };
        Call::new(self, request)
    }

    /// Makes a step on each batch of a stream, many of them in flight: see [`Steps`].
    pub fn steps<S>(&self, model: impl AsRef<str>, batches: S) -> Steps
    where
        S: futures_core::Stream + Send + 'static,
        S::Item: Into<StepInput>,
    {
        Steps::new(self, model_name(model), batches)
    }

    /// Computes the gradients of a batch: the first half of a step.
    pub fn compute_gradients(
        &self,
        model: impl AsRef<str>,
        batch: Batch,
    ) -> Call<ComputeGradientsRequest> {
        let encoding = TensorEncoding::Raw as i32;
        let request =
            ComputeGradientsRequest { model: model_name(model), batch: Some(batch), encoding };
        Call::new(self, request)
    }

    /// Applies gradients: the second half of a step.
    pub fn apply_gradients(
        &self,
        model: impl AsRef<str>,
        gradients: impl IntoIterator<Item = impl Into<NamedTensor>>,
    ) -> Call<ApplyGradientsRequest> {
        let gradients = gradients.into_iter().map(Into::into).collect();
        let request =
            ApplyGradientsRequest { model: model_name(model), gradients, ..Default::default() };
        Call::new(self, request)
    }

    /// Computes the outputs of a model for rows, of shape [n, d].
    pub fn predict(
        &self,
        model: impl AsRef<str>,
        inputs: impl Into<Tensor>,
    ) -> Call<PredictRequest> {
        let request = PredictRequest {
            model: model_name(model),
            inputs: Some(inputs.into()),
            ..Default::default()
        };
        Call::new(self, request)
    }

    /// Computes the loss and metrics on rows, or on a dataset ([`Data::dataset`]).
    pub fn evaluate(&self, model: impl AsRef<str>, data: impl Into<Data>) -> Call<EvaluateRequest> {
        let (data, dataset) = data.into().split();
        let request =
            EvaluateRequest { model: model_name(model), data, dataset, ..Default::default() };
        Call::new(self, request)
    }

    /// Checks the gradients of a model by finite differences.
    pub fn grad_check(&self, model: impl AsRef<str>, batch: Batch) -> Call<GradCheckRequest> {
        let request =
            GradCheckRequest { model: model_name(model), batch: Some(batch), ..Default::default() };
        Call::new(self, request)
    }

    /// Returns the weights, biases and optimiser state of a model, exactly.
    pub fn get_parameters(&self, model: impl AsRef<str>) -> Call<GetParametersRequest> {
        let request = GetParametersRequest {
            model: model_name(model),
            encoding: TensorEncoding::Raw as i32,
            ..Default::default()
        };
        Call::new(self, request)
    }

    /// Replaces weights and biases, and the optimiser state if it is given. Returns the model's
    /// step count.
    pub fn set_parameters(
        &self,
        model: impl AsRef<str>,
        parameters: impl Into<Parameters>,
    ) -> Call<SetParametersRequest> {
        let request = SetParametersRequest {
            model: model_name(model),
            parameters: Some(parameters.into()),
            ..Default::default()
        };
        Call::new(self, request)
    }

    /// Saves the state of a model under an id.
    pub fn create_checkpoint(
        &self,
        model: impl AsRef<str>,
        id: impl Into<String>,
    ) -> Call<CreateCheckpointRequest> {
        let request = CreateCheckpointRequest {
            model: model_name(model),
            checkpoint_id: id.into(),
            ..Default::default()
        };
        Call::new(self, request)
    }

    /// Lists the checkpoints of a model in order of name.
    pub fn list_checkpoints(&self, model: impl AsRef<str>) -> Call<ListCheckpointsRequest> {
        let request = ListCheckpointsRequest { model: model_name(model), ..Default::default() };
        Call::new(self, request)
    }

    /// Resets a model to one of its checkpoints. Returns the model's step count.
    pub fn restore_checkpoint(
        &self,
        model: impl AsRef<str>,
        id: impl AsRef<str>,
    ) -> Call<RestoreCheckpointRequest> {
        let name = checkpoint_name(model, id);
        Call::new(self, RestoreCheckpointRequest { name, ..Default::default() })
    }

    /// Deletes a checkpoint of a model.
    pub fn delete_checkpoint(
        &self,
        model: impl AsRef<str>,
        id: impl AsRef<str>,
    ) -> Call<DeleteCheckpointRequest> {
        let name = checkpoint_name(model, id);
        Call::new(self, DeleteCheckpointRequest { name, ..Default::default() })
    }

    /// Uploads rows under an id, to train on them by name: see [`UploadDataset`].
    pub fn upload_dataset<'a>(&self, id: impl AsRef<str>, rows: Batch) -> UploadDataset<'a> {
        UploadDataset::of_batch(self, id.as_ref(), rows)
    }

    /// Uploads rows that `rows` makes: from the given row on, as many as it likes; none after the
    /// last row. After a break it is called again with the first row that the server does not have.
    pub fn upload_dataset_from<'a>(
        &self,
        id: impl AsRef<str>,
        rows: impl FnMut(usize) -> Result<Option<Batch>> + Send + 'a,
    ) -> UploadDataset<'a> {
        UploadDataset::of_rows(self, id.as_ref(), Box::new(rows))
    }

    /// Returns the description of a dataset.
    pub fn get_dataset(&self, dataset: impl AsRef<str>) -> Call<GetDatasetRequest> {
        Call::new(self, GetDatasetRequest { name: dataset_name(dataset) })
    }

    /// Lists datasets in order of name.
    pub fn list_datasets(&self) -> Call<ListDatasetsRequest> {
        Call::new(self, ListDatasetsRequest::default())
    }

    /// Deletes a dataset that no run uses.
    pub fn delete_dataset(&self, dataset: impl AsRef<str>) -> Call<DeleteDatasetRequest> {
        let request = DeleteDatasetRequest { name: dataset_name(dataset), ..Default::default() };
        Call::new(self, request)
    }

    /// Writes a model as a file: see [`Download`].
    pub fn export_model(&self, model: impl AsRef<str>) -> Download {
        let request = ExportModelRequest { model: model_name(model) };
        Download::new(self, DownloadRequest::Model(request))
    }

    /// Creates a model from a file of [`Client::export_model`].
    pub fn import_model(&self, file: impl Into<FileSource>) -> ImportModel {
        ImportModel::new(self, file.into())
    }

    /// Writes everything that the server stores as a file; or that of one project, unless `project`
    /// is empty.
    pub fn create_backup(&self, project: impl AsRef<str>) -> Download {
        let request = CreateBackupRequest { project: project_name(project) };
        Download::new(self, DownloadRequest::Backup(request))
    }

    /// Restores a file of [`Client::create_backup`] to an empty server. Not retried.
    pub fn restore_backup(&self, file: impl Into<FileSource>) -> RestoreBackup {
        RestoreBackup::new(self, file.into())
    }

    /// Returns what a project uses and may use.
    pub fn get_project(&self, project: impl AsRef<str>) -> Call<GetProjectRequest> {
        Call::new(self, GetProjectRequest { name: project_name(project) })
    }

    /// Lists projects in order of name.
    pub fn list_projects(&self) -> Call<ListProjectsRequest> {
        Call::new(self, ListProjectsRequest::default())
    }

    /// Returns the status of the server: version, health, metrics.
    pub fn server_status(&self) -> Call<GetServerStatusRequest> {
        Call::new(self, GetServerStatusRequest::default())
    }

    /// Asks whether the server is serving.
    pub fn health(&self) -> Call<HealthCheckRequest> {
        Call::new(self, HealthCheckRequest { service: String::new() })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

fn name_in(collection: &str, id: impl AsRef<str>) -> String {
    let id = id.as_ref();
    match id.strip_prefix(collection) {
        Some(rest) if rest.starts_with('/') => id.into(),
        // An empty name is rejected by the check of the request.
        _ if id.is_empty() => String::new(),
        _ => format!("{collection}/{id}"),
    }
}

pub(crate) fn model_name(model: impl AsRef<str>) -> String {
    name_in("models", model)
}

pub(crate) fn dataset_name(dataset: impl AsRef<str>) -> String {
    name_in("datasets", dataset)
}

fn project_name(project: impl AsRef<str>) -> String {
    name_in("projects", project)
}

fn checkpoint_name(model: impl AsRef<str>, id: impl AsRef<str>) -> String {
    match (model_name(model), id.as_ref()) {
        (model, id) if model.is_empty() || id.is_empty() => String::new(),
        (model, id) => format!("{model}/checkpoints/{id}"),
    }
}

pub(crate) fn check_name(field: &str, name: &str, form: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::field(field, format!("expected {form}, got \"\"")));
    }
    Ok(())
}

const MODEL: &str = "models/{id}";
const CHECKPOINT: &str = "models/{id}/checkpoints/{id}";
const DATASET: &str = "datasets/{id}";
const PROJECT: &str = "projects/{id}";

pub(crate) fn check_model(field: &str, name: &str) -> Result<()> {
    check_name(field, name, MODEL)
}

fn required<T>(part: Option<T>, name: &str) -> Result<T> {
    part.ok_or_else(|| Error::new(Code::Internal, format!("the response has no {name}")))
}

/// Implements a call: its stub, its output, its checks before sending.
macro_rules! rpc {
    ($request:ident, $stub:ident.$method:ident, $response:ty => $output:ty, $convert:expr, $check:expr) => {
        rpc!(@ $request, $stub.$method, $response => $output, $convert, $check, |_| None);
    };
    ($request:ident, $stub:ident.$method:ident, $response:ty => $output:ty, $convert:expr, $check:expr, mutating) => {
        rpc!(@ $request, $stub.$method, $response => $output, $convert, $check,
             |request| Some(&mut request.request_id));
        impl Mutating for $request {}
    };
    (@ $request:ident, $stub:ident.$method:ident, $response:ty => $output:ty, $convert:expr, $check:expr, $id:expr) => {
        impl Rpc for $request {
            type Output = $output;
            type Response = $response;
            fn send(
                request: tonic::Request<Self>,
                client: &Client,
            ) -> BoxFuture<'static, std::result::Result<tonic::Response<$response>, tonic::Status>>
            {
                let mut stub = Client::$stub(client);
                Box::pin(async move { stub.$method(request).await })
            }
            fn output(response: $response) -> Result<$output> {
                let convert: fn($response) -> Result<$output> = $convert;
                convert(response)
            }
            fn check(&self) -> Result<()> {
                let check: fn(&$request) -> Result<()> = $check;
                check(self)
            }
            fn request_id(&mut self) -> Option<&mut String> {
                let id: fn(&mut $request) -> Option<&mut String> = $id;
                id(self)
            }
        }
    };
}

macro_rules! paged {
    ($request:ident, $item:ident, $items:ident) => {
        impl Paged for $request {
            type Item = $item;
            fn page_token_mut(&mut self) -> &mut String {
                &mut self.page_token
            }
            fn page_size_mut(&mut self) -> &mut i32 {
                &mut self.page_size
            }
            fn split(page: Self::Output) -> (Vec<$item>, String) {
                (page.$items, page.next_page_token)
            }
        }
    };
}

fn check_batch(batch: &Option<Batch>, field: &str) -> Result<()> {
    batch.as_ref().map_or(Ok(()), |batch| batch.check(field))
}

fn check_parameters(parameters: &Option<Parameters>, field: &str) -> Result<()> {
    let Some(parameters) = parameters else { return Ok(()) };
    check_named(&parameters.tensors, &format!("{field}.tensors"))?;
    check_named(&parameters.optimizer_state, &format!("{field}.optimizer_state"))
}

rpc!(CreateModelRequest, training.create_model, CreateModelResponse => Model,
    |r| required(r.model, "model"),
    |r| check_parameters(&r.initial_parameters, "initial_parameters"), mutating);
rpc!(GetModelRequest, training.get_model, GetModelResponse => Model,
    |r| required(r.model, "model"), |r| check_model("name", &r.name));
rpc!(ListModelsRequest, training.list_models, ListModelsResponse => ListModelsResponse,
    Ok, |_| Ok(()));
paged!(ListModelsRequest, Model, models);
rpc!(DeleteModelRequest, training.delete_model, DeleteModelResponse => (),
    |_| Ok(()), |r| check_model("name", &r.name), mutating);
rpc!(StopTrainingRequest, training.stop_training, StopTrainingResponse => StopTrainingResponse,
    Ok, |r| check_model("model", &r.model), mutating);
rpc!(StepRequest, training.step, StepResponse => StepResponse,
    Ok, |r| { check_model("model", &r.model)?; check_batch(&r.batch, "batch") }, mutating);
rpc!(ComputeGradientsRequest, training.compute_gradients,
    ComputeGradientsResponse => ComputeGradientsResponse,
    Ok, |r| { check_model("model", &r.model)?; check_batch(&r.batch, "batch") });
rpc!(ApplyGradientsRequest, training.apply_gradients,
    ApplyGradientsResponse => ApplyGradientsResponse,
    Ok, |r| { check_model("model", &r.model)?; check_named(&r.gradients, "gradients") }, mutating);
rpc!(PredictRequest, training.predict, PredictResponse => PredictResponse,
Ok, |r| {
    check_model("model", &r.model)?;
    r.inputs.as_ref().map_or(Ok(()), |inputs| inputs.check("inputs"))
});
rpc!(EvaluateRequest, training.evaluate, EvaluateResponse => EvaluateResponse,
    Ok, |r| { check_model("model", &r.model)?; check_batch(&r.data, "data") });
rpc!(GradCheckRequest, training.grad_check, GradCheckResponse => GradCheckResult,
    |r| required(r.result, "result"),
    |r| { check_model("model", &r.model)?; check_batch(&r.batch, "batch") });
rpc!(GetParametersRequest, training.get_parameters, GetParametersResponse => Parameters,
    |r| required(r.parameters, "parameters"), |r| check_model("model", &r.model));
rpc!(SetParametersRequest, training.set_parameters, SetParametersResponse => i64,
    |r| Ok(r.step),
    |r| { check_model("model", &r.model)?; check_parameters(&r.parameters, "parameters") },
    mutating);
rpc!(CreateCheckpointRequest, training.create_checkpoint, CreateCheckpointResponse => Checkpoint,
    |r| required(r.checkpoint, "checkpoint"), |r| {
        check_model("model", &r.model)?;
        check_name("checkpoint_id", &r.checkpoint_id, "an id")
    }, mutating);
rpc!(ListCheckpointsRequest, training.list_checkpoints,
    ListCheckpointsResponse => ListCheckpointsResponse,
    Ok, |r| check_model("model", &r.model));
paged!(ListCheckpointsRequest, Checkpoint, checkpoints);
rpc!(RestoreCheckpointRequest, training.restore_checkpoint, RestoreCheckpointResponse => i64,
    |r| Ok(r.step), |r| check_name("name", &r.name, CHECKPOINT), mutating);
rpc!(DeleteCheckpointRequest, training.delete_checkpoint, DeleteCheckpointResponse => (),
    |_| Ok(()), |r| check_name("name", &r.name, CHECKPOINT), mutating);
rpc!(GetDatasetRequest, training.get_dataset, GetDatasetResponse => Dataset,
    |r| required(r.dataset, "dataset"), |r| check_name("name", &r.name, DATASET));
rpc!(ListDatasetsRequest, training.list_datasets, ListDatasetsResponse => ListDatasetsResponse,
    Ok, |_| Ok(()));
paged!(ListDatasetsRequest, Dataset, datasets);
rpc!(DeleteDatasetRequest, training.delete_dataset, DeleteDatasetResponse => (),
    |_| Ok(()), |r| check_name("name", &r.name, DATASET), mutating);
rpc!(GetProjectRequest, admin.get_project, GetProjectResponse => Project,
    |r| required(r.project, "project"), |r| check_name("name", &r.name, PROJECT));
rpc!(ListProjectsRequest, admin.list_projects, ListProjectsResponse => ListProjectsResponse,
    Ok, |_| Ok(()));
paged!(ListProjectsRequest, Project, projects);
rpc!(GetServerStatusRequest, admin.get_server_status, GetServerStatusResponse => ServerStatus,
    |r| required(r.status, "status"), |_| Ok(()));
rpc!(HealthCheckRequest, health_stub.check, health::HealthCheckResponse => bool,
    |r| Ok(r.status() == health::health_check_response::ServingStatus::Serving), |_| Ok(()));

impl Call<CreateModelRequest> {
    /// Sets the id of the model. Default: the server draws one.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.request.model_id = id.into();
        self
    }

    /// Adds a label.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.labels.insert(key.into(), value.into());
        self
    }

    /// Lets the server delete the model when it was not used for this time.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.request.ttl = prost_types::Duration::try_from(ttl).ok();
        self
    }

    /// Sets initial parameters, instead of random ones.
    pub fn initial_parameters(mut self, parameters: impl Into<Parameters>) -> Self {
        self.request.initial_parameters = Some(parameters.into());
        self
    }

    /// Sets when the server responds to changes of the model.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.request.durability = durability as i32;
        self
    }
}

impl Call<ListModelsRequest> {
    /// Lists only models that have this label, and all others that are given.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.labels.insert(key.into(), value.into());
        self
    }
}

impl Call<StopTrainingRequest> {
    /// Stops this run only, `models/{id}/runs/{n}`.
    pub fn run_name(mut self, run: impl Into<String>) -> Self {
        self.request.run = run.into();
        self
    }
}

macro_rules! expected_step {
    ($($request:ident),*) => {$(
        impl Call<$request> {
            /// Makes the change only if the model is at this step. Otherwise the call fails with
            /// `ABORTED`, and [`Error::current_step`] returns the model's step.
            pub fn expected_step(mut self, step: i64) -> Self {
                self.request.expected_step = Some(step);
                self
            }
        }
    )*};
}
expected_step!(StepRequest, ApplyGradientsRequest, SetParametersRequest, RestoreCheckpointRequest);

impl Call<PredictRequest> {
    /// Sets the outputs to return. Default: probabilities and classes; logits for regression.
    pub fn outputs(mut self, outputs: impl IntoIterator<Item = PredictOutput>) -> Self {
        self.request.outputs = outputs.into_iter().map(|output| output as i32).collect();
        self
    }
}

impl Call<EvaluateRequest> {
    /// Sets the k of top-k accuracy.
    pub fn top_k(mut self, k: i32) -> Self {
        self.request.top_k = Some(k);
        self
    }

    /// Returns the loss and the accuracy only.
    pub fn summary_only(mut self) -> Self {
        self.request.summary_only = true;
        self
    }
}

impl Call<GradCheckRequest> {
    /// Sets tolerances and the number of entries to check.
    pub fn config(mut self, config: GradCheckConfig) -> Self {
        self.request.config = Some(config);
        self
    }
}

impl Call<GetParametersRequest> {
    /// Leaves the optimiser state out.
    pub fn omit_optimizer_state(mut self) -> Self {
        self.request.omit_optimizer_state = true;
        self
    }
}

impl Call<GetServerStatusRequest> {
    /// Returns flags and the latest lines of the log too.
    pub fn full(mut self) -> Self {
        self.request.view = ServerStatusView::Full as i32;
        self
    }
}

impl Call<HealthCheckRequest> {
    /// Asks for a service, such as `backprop.v1.TrainingService.writes`.
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.request.service = service.into();
        self
    }
}

/// Parameters to replace, by name.
impl<N: Into<NamedTensor>> FromIterator<N> for Parameters {
    fn from_iter<I: IntoIterator<Item = N>>(tensors: I) -> Parameters {
        Parameters { tensors: tensors.into_iter().map(Into::into).collect(), ..Default::default() }
    }
}
