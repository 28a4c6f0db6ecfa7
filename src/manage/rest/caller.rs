//! Who asks: whoever the token is of. Nothing is asked of the API server in anybody else's name.
//!
//! The connections are shared; the token is put on each request, so that nobody's request pays for a handshake and nobody's
//! token outlives their request.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::BodyExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client, Resource};

use super::problems::Refusal;

/// The most that is read of one answer of the API server: pages are bounded by their number of objects, and etcd bounds
/// these.
const MAX_ANSWER: usize = 256 << 20;

/// Whoever asks, and where.
#[derive(Clone)]
pub(super) struct Caller {
    client: Client,
    namespace: String,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl Caller {
    /// From a request's headers. `nobody` is a client without credentials.
    ///
    /// # Errors
    /// When there is no bearer token.
    pub(super) fn of(headers: &HeaderMap, nobody: &Client, namespace: &str) -> Result<Self, Refusal> {
        let bearer = bearer(headers).ok_or(Refusal::NoToken)?;
        let nobody = nobody.clone();
        let service = tower::service_fn(move |mut request: Request<Body>| {
            request.headers_mut().insert(header::AUTHORIZATION, bearer.clone());
            let nobody = nobody.clone();
            async move { nobody.send(request).await }
        });
        Ok(Self { client: Client::new(service, namespace), namespace: namespace.to_owned() })
    }

    /// The namespace of everything here.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The API of a kind in the namespace.
    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// What the API server calls them.
    pub(super) async fn name(&self) -> Result<String, Refusal> {
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let review = api.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
        let user = review.status.and_then(|status| status.user_info);
        Ok(user.and_then(|user| user.username).unwrap_or_default())
    }

    /// Whether they may list a kind in the namespace, as far as the API server says: it may not say even that to everybody.
    pub(super) async fn may_list<K: Resource<DynamicType = ()>>(&self) -> bool {
        let asked = ResourceAttributes {
            group: Some(K::group(&()).into()),
            resource: Some(K::plural(&()).into()),
            namespace: Some(self.namespace.clone()),
            verb: Some("list".into()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(asked), ..Default::default() };
        let api: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let answer = api.create(&PostParams::default(), &review).await;
        answer.is_ok_and(|review| review.status.is_some_and(|status| status.allowed))
    }

    /// The body of an answer.
    pub(super) async fn fetch(&self, request: Request<Vec<u8>>) -> Result<Bytes, Refusal> {
        let response = self.client.send(request.map(Body::from)).await?;
        let status = response.status();
        let body = http_body_util::Limited::new(response.into_body(), MAX_ANSWER);
        let bytes = body.collect().await.map_err(|_| Refusal::Unreachable)?.to_bytes();
        if status.is_success() {
            return Ok(bytes);
        }
        match serde_json::from_slice::<kube::core::Status>(&bytes) {
            Ok(said) if said.code != 0 => Err(Refusal::Server(said.boxed())),
            Ok(_) | Err(_) => {
                Err(Refusal::Server(kube::core::Status::failure("", "").with_code(status.as_u16()).boxed()))
            }
        }
    }

    /// Follows a request that doesn't end.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}

/// The `Authorization` header for the API server, if the request has one that is a bearer token.
fn bearer(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !scheme.eq_ignore_ascii_case("bearer") || !fits {
        return None;
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        bearer(&headers)
    }

    #[test]
    fn only_a_bearer_token_will_do() {
        assert_eq!(of(&["bearer  abc "]).unwrap(), "Bearer abc");
        assert!(of(&["Bearer abc"]).unwrap().is_sensitive());
        for none in [&[][..], &["Bearer"], &["Bearer "], &["Basic abc"], &["Bearer a b"], &["Bearer a", "Bearer b"]] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }
}
