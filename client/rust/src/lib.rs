//! Client of backpropd, a gRPC service that holds small neural networks as live models and trains
//! them.
//!
//! ```no_run
//! use backprop_client::{Client, v1::{Adam, Batch, Layer, ModelSpec}};
//!
//! # async fn example() -> backprop_client::Result<()> {
//! let client = Client::connect("localhost:50051")?;
//! let spec = ModelSpec::new(2)
//!     .with_layer(Layer::new(16))
//!     .with_layer(Layer::new(2))
//!     .with_optimizer(Adam::new(0.05));
//! client.create_model(spec).id("xor").await?;
//!
//! let inputs = [[0.0f32, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]];
//! let summary = client
//!     .train("xor", Batch::with_labels(&inputs, &[0, 1, 1, 0]))
//!     .iterations(500)
//!     .on_progress(|progress| println!("{}: {}", progress.iteration, progress.loss()))
//!     .await?;
//! println!("{} after {} steps", summary.stop_reason().as_str_name(), summary.step);
//!
//! let prediction = client.predict("xor", &inputs).await?;
//! assert_eq!(prediction.classes, [0, 1, 1, 0]);
//! # Ok(())
//! # }
//! ```
//!
//! # What to rely on
//!
//! - **Calls** are made when they are awaited. Their methods set options. Dropping a future or a
//!   stream cancels the call.
//! - **Retries.** A call that fails with `UNAVAILABLE` is made again, with the same request id, so
//!   that the server changes nothing twice. [`RetryPolicy`] says how often. The deadline of the
//!   call bounds the whole.
//! - **Training** attaches to its run again when the connection breaks, watching goes on with the
//!   next event, uploads with the first missing row, pipelined steps with the first without a
//!   result. On a server with a data directory that holds across restarts.
//! - **Tensors** travel as raw bytes: no number is converted. Shapes are compared with the number of
//!   elements before anything is sent.
//! - **Errors** are one type, [`Error`], with the code, the wrong fields, the reason and its details.
//! - **Tokens** are not sent in clear text to other machines.
//!
//! The messages of the contract are in [`v1`]. Their fields have the comments of the contract.
//!
//! # Features
//!
//! - `ndarray`: arrays of the crate `ndarray` are tensors, and tensors become arrays.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod call;
mod client;
mod connection;
mod error;
mod files;
mod model;
mod proto;
mod steps;
mod tensor;
mod training;
mod upload;

// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use call::{Call, Mutating, Paged, Rpc};
pub use client::Client;
pub use connection::{Builder, RetryPolicy, Tls};
pub use error::{Code, Error, FieldViolation, Result};
pub use files::{Download, FileSource, ImportModel, RestoreBackup};
pub use prost_types;
pub use steps::{StepInput, Steps};
pub use tensor::Element;
pub use training::{Data, Run, Train, Watch};
pub use upload::UploadDataset;

/// The messages of the contract, `backprop.v1`.
///
/// Fields that are enums are numbers; methods of the same name return the enum.
pub mod v1 {
    pub use crate::proto::backprop::v1::{
        Activation, Adagrad, Adam, AdamW, ApplyGradientsRequest, ApplyGradientsResponse,
        AverageMetrics, Batch, BinaryCrossEntropy, ByteOrder, Checkpoint, CheckpointConfig,
        ClassMetrics, ClassificationMetrics, ComputeGradientsRequest, ComputeGradientsResponse,
        CosineSchedule, CreateBackupRequest, CreateCheckpointRequest, CreateCheckpointResponse,
        CreateModelRequest, CreateModelResponse, DataType, Dataset, DatasetChunk, DatasetCommit,
        DatasetHeader, DatasetState, DeleteCheckpointRequest, DeleteCheckpointResponse,
        DeleteDatasetRequest, DeleteDatasetResponse, DeleteModelRequest, DeleteModelResponse,
        Durability, EarlyStopping, EvaluateRequest, EvaluateResponse, ExponentialSchedule,
        ExportModelRequest, GetDatasetRequest, GetDatasetResponse, GetModelRequest,
        GetModelResponse, GetParametersRequest, GetParametersResponse, GetProjectRequest,
        GetProjectResponse, GetServerStatusRequest, GetServerStatusResponse, GradCheckConfig,
        GradCheckRequest, GradCheckResponse, GradCheckResult, GradCheckVerdict, Huber,
        ImportModelRequest, Initializer, InputStandardization, Layer, ListCheckpointsRequest,
        ListCheckpointsResponse, ListDatasetsRequest, ListDatasetsResponse, ListModelsRequest,
        ListModelsResponse, ListProjectsRequest, ListProjectsResponse, Loss, MeanAbsoluteError,
        MeanSquaredError, Metrics, Model, ModelSpec, NamedTensor, Optimizer, Parameters,
        PlateauState, PredictOutput, PredictRequest, PredictResponse, Progress, Project, QuotaUse,
        ReduceOnPlateauSchedule, RegressionMetrics, RestoreBackupRequest, RestoreBackupResponse,
        RestoreCheckpointRequest, RestoreCheckpointResponse, RmsProp, RunStarted, Schedule,
        ServerFlag, ServerStatus, ServerStatusView, ServiceHealth, SetParametersRequest,
        SetParametersResponse, Sgd, SoftmaxCrossEntropy, StepRequest, StepResponse, StepSchedule,
        StepStreamRequest, StepStreamResponse, StopReason, StopTrainingRequest,
        StopTrainingResponse, Tensor, TensorEncoding, TensorGradCheck, TrainRequest,
        TrainingConfig, TrainingEvent, TrainingSummary, UploadDatasetRequest, WatchTrainingRequest,
        loss, optimizer, schedule, step_stream_response, training_config, training_event,
        upload_dataset_request,
    };
    pub use crate::proto::grpc::health::v1::HealthCheckRequest;
}
