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
			return fmt.Errorf("%s is there already and is left as it is%s", path, whenAlone(path == key, key, cert))
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := writeNew(key, p.Key, 0o600); err != nil {
		return err
	}
	if err := writeNew(cert, p.Cert, 0o644); err != nil {
		return errors.Join(err, os.Remove(key)) // good for nothing by itself
	}
	return nil
}

// whenAlone is the way out where a run was killed between the two files.
func whenAlone(alone bool, key, cert string) string {
	if !alone {
		return ""
	}
	return fmt.Sprintf(", without %s: where a run was interrupted, remove %s and run it again", cert, key)
}

func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path)) // else the next run finds half of it
	}
	return nil
}
