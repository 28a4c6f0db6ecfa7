package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/distribution/v3/registry/auth/token"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	tokenService = "the registry of these tests"
	tokenIssuer  = "the token server of these tests"
	// publicPrefix is of repositories that everybody may pull from.
	publicPrefix = "public/"
)

// tokenServer hands out tokens as Docker's token specification says: GET with
// service and scopes, basic authentication or none.
type tokenServer struct {
	user, password string
	life           int
	signer         jose.Signer
}

func newTokenServer(credentials string, life int, keys *keys) (*tokenServer, error) {
	chain := []string{base64.StdEncoding.EncodeToString(keys.leaf.Certificate[0])}
	options := (&jose.SignerOptions{}).WithType("JWT").WithHeader("x5c", chain)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: keys.leaf.PrivateKey}, options)
	user, password, _ := strings.Cut(credentials, ":")
	return &tokenServer{user, password, life, signer}, err
}

func (s *tokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, named := r.BasicAuth()
	if named && (user != s.user || password != s.password) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.URL.Query().Get("service") != tokenService {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	now := time.Now()
	claims := token.ClaimSet{
		Issuer: tokenIssuer, Subject: user, Audience: []string{tokenService},
		Expiration: now.Add(time.Duration(s.life) * time.Second).Unix(), NotBefore: now.Unix(), IssuedAt: now.Unix(),
	}
	for _, scopes := range r.URL.Query()["scope"] {
		for _, scope := range strings.Fields(scopes) {
			parts := strings.Split(scope, ":")
			if len(parts) != 3 {
				continue
			}
			actions := strings.Split(parts[2], ",")
			if !named {
				if !strings.HasPrefix(parts[1], publicPrefix) {
					continue
				}
				actions = []string{"pull"}
			}
			claims.Access = append(claims.Access, &token.ResourceActions{Type: parts[0], Name: parts[1], Actions: actions})
		}
	}
	text, err := jwt.Signed(s.signer).Claims(claims).Serialize()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{
		"token": text, "expires_in": s.life, "issued_at": now.UTC().Format(time.RFC3339),
	})
}
