package main

import (
	"crypto/rand"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// mastersGroup may do everything, whatever RBAC says.
const mastersGroup = "system:masters"

// user is one identity the API server knows by a bearer token.
type user struct {
	name   string
	groups []string
	token  string
}

// The identities of the control plane itself. They have names of their own so
// that a count of API calls in the audit log can leave them out.
const (
	adminName      = "admin"
	supervisorName = "system:controlplane"
	controllerName = "system:kube-controller-manager"
)

// testers are there so that RBAC can be tested: they may do what
// every authenticated user may (discovery), and what a test binds to them.
var testers = []string{"viewer", "operator", "nobody"}

// newUsers makes the fixed users, followed by those of usersFile unless it is
// empty, each with a fresh token.
func newUsers(usersFile string) ([]user, error) {
	users := []user{
		{name: adminName, groups: []string{mastersGroup}},
		{name: supervisorName, groups: []string{mastersGroup}},
		// The role upstream binds to this name is for controllers that each
		// log in by themselves. These share one login and delete all kinds.
		{name: controllerName, groups: []string{mastersGroup}},
	}
	for _, name := range testers {
		users = append(users, user{name: name})
	}
	if usersFile != "" {
		more, err := readUsersFile(usersFile)
		if err != nil {
			return nil, err
		}
		users = append(users, more...)
	}
	seen := map[string]bool{}
	for i := range users {
		if seen[users[i].name] {
			return nil, fmt.Errorf("user %q is named twice: the users file adds to %s, %s; give it another name",
				users[i].name, adminName, strings.Join(testers, ", "))
		}
		seen[users[i].name] = true
		users[i].token = rand.Text()
	}
	return users, nil
}

// userName keeps a name usable as the end of a file name.
var userName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// readUsersFile reads one user a line: a name, then its groups, separated by
// commas. Empty lines and lines that start with # are skipped.
func readUsersFile(path string) ([]user, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("users file: %w", err)
	}
	var users []user
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, ",")
		for j := range fields {
			fields[j] = strings.TrimSpace(fields[j])
		}
		if !userName.MatchString(fields[0]) {
			return nil, fmt.Errorf("users file %s, line %d: %q can't be a user here: use letters, digits, '.', '_' and '-', then groups after commas",
				path, i+1, fields[0])
		}
		users = append(users, user{name: fields[0], groups: fields[1:]})
	}
	return users, nil
}

// writeTokenFile writes the file that --token-auth-file of the API server reads.
func writeTokenFile(path string, users []user) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	rows := csv.NewWriter(file)
	for _, u := range users {
		row := []string{u.token, u.name, "uid-of-" + u.name}
		if len(u.groups) > 0 { // an empty field would be read as one group without a name
			row = append(row, strings.Join(u.groups, ","))
		}
		if err := rows.Write(row); err != nil {
			break // Error below repeats it
		}
	}
	rows.Flush()
	return errors.Join(rows.Error(), file.Close())
}

// named finds a user that newUsers made.
func named(users []user, name string) user {
	for _, u := range users {
		if u.name == name {
			return u
		}
	}
	panic("no user " + name + ": newUsers makes the fixed ones always")
}
