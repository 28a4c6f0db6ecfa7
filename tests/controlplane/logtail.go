package main

import (
	"bytes"
	"io"
	"os"
)

// The tail of a log that is shown when a component dies: enough for an error
// and what led to it, less than a screen.
const (
	tailLines = 20
	tailBytes = 8 << 10
)

// logTail gives the last lines of the file, or says why it can't.
func logTail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > tailBytes {
		// Nothing is lost if that fails: the whole log is shown then.
		_, _ = file.Seek(-tailBytes, io.SeekEnd)
	}
	text, err := io.ReadAll(file)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	if len(lines) > tailLines {
		lines = lines[len(lines)-tailLines:]
	}
	return string(bytes.Join(lines, []byte("\n")))
}
