//! The request for a code operation, which an LLM carries out.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::callback_url::CallbackUrl;
use crate::id::SessionId;
use crate::limits;
use crate::name::BranchName;
use crate::path::RepoPath;
use crate::repo_url::RepoUrl;
use crate::request::{InvalidRequest, field};

/// The largest number of rounds that a code operation may ask for.
pub const MAX_ITERATIONS: u32 = 100;
/// The rounds of a code operation that asks for none.
pub const DEFAULT_ITERATIONS: u32 = 10;

/// A checked request for a code operation.
#[derive(Debug, Clone)]
pub struct CodeOperation {
    /// What kind of work it is.
    pub operation_type: OperationType,
    /// What is wanted, in the user's words.
    pub description: String,
    /// The repository.
    pub repo_url: RepoUrl,
    /// The branch to start from.
    pub branch: BranchName,
    /// The files that the work is about.
    pub target_files: Vec<RepoPath>,
    /// The error to fix.
    pub error_context: Option<ErrorContext>,
    /// The feature to make.
    pub feature_context: Option<FeatureContext>,
    /// The organization on whose behalf the service asks.
    pub organization_id: String,
    /// The session.
    pub session_id: SessionId,
    /// Whether a pull request is opened instead of ending with the pushed branch.
    pub approval_required: bool,
    /// The most rounds of changing and testing, 1 to 100.
    pub max_iterations: u32,
    /// The credential for the LLM.
    pub llm_credential: Option<SecretString>,
    /// The token for the remote.
    pub access_token: Option<SecretString>,
    /// Where the gateway says that the job has ended.
    pub callback_url: Option<CallbackUrl>,
}

/// The kinds of code operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationType {
    /// Mend an error.
    ErrorFix,
    /// Make a feature.
    FeatureImplementation,
    /// Change the form, not the behaviour.
    Refactor,
    /// Write tests.
    Test,
}

/// The error to fix.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ErrorContext {
    /// What the error says.
    pub error_message: String,
    /// Where it came from.
    #[serde(default)]
    pub stack_trace: Option<String>,
    /// The files that it touches.
    #[serde(default)]
    pub affected_files: Vec<String>,
}

/// The feature to make.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FeatureContext {
    /// What it must do.
    pub requirements: Texts,
    /// How one sees that it does.
    #[serde(default)]
    pub acceptance_criteria: Option<Texts>,
    /// How it is to be tested.
    #[serde(default)]
    pub test_strategy: Option<String>,
}

/// One text, or a list of them: services send both.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Texts {
    /// One text.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Let an LLM change the code.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "CodeOperationRequest")]
pub(crate) struct Wire {
    operation_type: OperationType,
    description: String,
    repository: WireRepository,
    #[serde(default)]
    target_files: Vec<String>,
    error_context: Option<ErrorContext>,
    feature_context: Option<FeatureContext>,
    organization_id: String,
    session_id: String,
    approval_required: bool,
    max_iterations: Option<u32>,
    #[schemars(with = "Option<String>", extend("format" = "password"))]
    claude_credentials: Option<SecretString>,
    #[schemars(with = "Option<String>", extend("format" = "password"))]
    github_access_token: Option<SecretString>,
    /// Where the gateway says that the job has ended: an `https` address without user information and fragment.
    #[schemars(length(max = 2048), extend("format" = "uri"))]
    callback_url: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "Repository")]
struct WireRepository {
    url: String,
    #[serde(rename = "owner")]
    _owner: Option<String>,
    #[serde(rename = "name")]
    _name: Option<String>,
    branch: String,
}

impl CodeOperation {
    pub(crate) fn from_json(body: &[u8]) -> Result<Self, InvalidRequest> {
        let wire: Wire = field::read(body)?;
        if wire.target_files.len() > limits::MAX_CHANGED_FILES {
            return Err(InvalidRequest::new("targetFiles", "has more than 10000 entries"));
        }
        let target_files = wire.target_files.iter().enumerate();
        let target_files = target_files.map(|(i, path)| field::parsed(&format!("targetFiles[{i}]"), path));
        let max_iterations = wire.max_iterations.unwrap_or(DEFAULT_ITERATIONS);
        if !(1..=MAX_ITERATIONS).contains(&max_iterations) {
            return Err(InvalidRequest::new("maxIterations", "is not between 1 and 100"));
        }
        Ok(Self {
            operation_type: wire.operation_type,
            description: field::text("description", wire.description, limits::MAX_USER_REQUEST_BYTES)?,
            repo_url: field::parsed("repository.url", &wire.repository.url)?,
            branch: field::parsed("repository.branch", &wire.repository.branch)?,
            target_files: target_files.collect::<Result<_, _>>()?,
            error_context: wire.error_context,
            feature_context: wire.feature_context,
            organization_id: field::text("organizationId", wire.organization_id, limits::MAX_IDENTITY_BYTES)?,
            session_id: field::parsed("sessionId", &wire.session_id)?,
            approval_required: wire.approval_required,
            max_iterations,
            llm_credential: field::secret("claudeCredentials", wire.claude_credentials)?,
            access_token: field::secret("githubAccessToken", wire.github_access_token)?,
            callback_url: field::optional("callbackUrl", wire.callback_url.as_deref())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_job_is_taken() {
        let body = br#"{"operationType":"error_fix","description":"d","repository":{"url":"https://h/o/r","owner":"o","name":"r","branch":"main"},
            "targetFiles":["src/a.rs"],"errorContext":{"errorMessage":"m","stackTrace":"s","affectedFiles":[]},"organizationId":"o",
            "sessionId":"s","approvalRequired":true,"maxIterations":3,"githubAccessToken":"t"}"#;
        let job = CodeOperation::from_json(body).unwrap();
        assert_eq!(
            (job.operation_type, job.max_iterations),
            (OperationType::ErrorFix, 3)
        );
    }
}
