package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// unfinishedFile lies in a data folder while a command changes it that must be
// carried to its end: it says which.
const unfinishedFile = "unfinished"

// CheckFinished refuses a data folder that a command was interrupted on.
func CheckFinished(dataDir string) error {
	text, err := os.ReadFile(filepath.Join(dataDir, unfinishedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: `%s` was interrupted: run it again first", dataDir, strings.TrimSpace(string(text)))
}

// BeginUnfinished marks a data folder until EndUnfinished.
func BeginUnfinished(dataDir, command string) error {
	return writeFile(filepath.Join(dataDir, unfinishedFile), []byte(command+"\n"))
}

// EndUnfinished says that the command was carried to its end.
func EndUnfinished(dataDir string) error {
	err := os.Remove(filepath.Join(dataDir, unfinishedFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(dataDir)
}

// IsUnfinished reports whether a command was interrupted on a data folder.
func IsUnfinished(dataDir string) bool { return CheckFinished(dataDir) != nil }
