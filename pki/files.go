package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Write makes two files, the key readable for its owner alone. It overwrites
// nothing: a key that is lost can't be had again.
func (p Pair) Write(cert, key string) error {
	for _, path := range []string{cert, key} {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s is there already and is left as it is", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := writeNew(key, p.Key, 0o600); err != nil {
		return err
	}
	return writeNew(cert, p.Cert, 0o644)
}

func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}
