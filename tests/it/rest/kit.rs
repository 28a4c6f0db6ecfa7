//! What these tests share: a person with a token before the real binary's door, and their rights.

use http::Method;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::support::controlplane::{ControlPlane, User};

/// A person before a door.
#[derive(Clone)]
pub struct Door {
    pub url: String,
    token: Option<String>,
    headers: Vec<(String, String)>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    pub fn etag(&self) -> String {
        self.headers["etag"].to_str().unwrap().to_owned()
    }

    /// The body of a refusal, which has the one form that all have.
    #[track_caller]
    pub fn problem(&self, status: u16, slug: &str) -> Value {
        let problem = self.json();
        assert_eq!(self.status, status, "{self:#?}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:#?}");
        assert_eq!(problem["type"], format!("https://tranche.dev/problems/{slug}"), "{self:#?}");
        assert_eq!(problem["status"], status, "{self:#?}");
        assert_eq!((&problem["error"], &problem["message"]), (&problem["title"], &problem["detail"]), "{self:#?}");
        problem
    }

    /// The body of what went well.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert!(matches!(self.status, 200 | 201), "{self:#?}");
        self.json()
    }
}

impl Door {
    pub fn of(plane: &ControlPlane, url: &str, user: User) -> Self {
        Self::with(url, Some(plane.token(user)))
    }

    pub fn with(url: &str, token: Option<String>) -> Self {
        Self { url: url.to_owned(), token, headers: Vec::new() }
    }

    pub fn header(&self, name: &str, value: &str) -> Self {
        let mut door = self.clone();
        door.headers.push((name.into(), value.into()));
        door
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let mut request = reqwest::Client::new().request(method, format!("{}/api/v1{path}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::PUT, path, Some(body.to_string())).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }
}

/// Binds a user to the roles of examples in a namespace.
pub async fn bind(plane: &ControlPlane, namespace: &str, user: User, files: &[&str]) {
    let client = plane.client(User::Admin).await;
    let name = format!("{user:?}").to_lowercase();
    for file in files {
        let path = format!("{}/examples/{file}", env!("CARGO_MANIFEST_DIR"));
        let role: Role = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
        let apply = PatchParams::apply("test").force();
        let role_name = role.name_any();
        let mut role = json!(role);
        role["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        role["kind"] = json!("Role");
        roles.patch(&role_name, &apply, &Patch::Apply(&role)).await.unwrap();
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": format!("{name}-{role_name}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role_name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
        });
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
        bindings.patch(&format!("{name}-{role_name}"), &apply, &Patch::Apply(&binding)).await.unwrap();
    }
}
