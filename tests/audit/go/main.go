// logcheck verifies what fhir-hook's log signs with the Go project's own modules, sumdb/note and sumdb/tlog, which share
// no code with it. Every command prints one line and exits with 0, or says on stderr what does not hold and exits with 1.
//
//	logcheck checkpoint VKEY <checkpoint       origin, size and root
//	logcheck inclusion VKEY <proof.json        the record is in the signed tree
//	logcheck consistency VKEY <proof.json      the old tree grew into the new one
//	logcheck tiles VKEY DIR                    tiles and entry bundles of C2SP tlog-tiles give the signed root
//	logcheck make ORIGIN N SEQ                 a key, a tree of N records and a proof of record SEQ, as JSON
package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type proof struct {
	Proof      string   `json:"proof"`
	Seq        int64    `json:"seq"`
	Record     string   `json:"record"`
	Hashes     []string `json:"hashes"`
	Checkpoint string   `json:"checkpoint"`
	Old        struct {
		Checkpoint string `json:"checkpoint"`
	} `json:"old"`
}

type tree struct {
	origin string
	size   int64
	root   tlog.Hash
}

func main() {
	said, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "logcheck:", err)
		os.Exit(1)
	}
	fmt.Println(said)
}

func run(args []string) (string, error) {
	if len(args) < 2 {
		return "", errors.New("what is to be checked?")
	}
	if args[0] == "make" {
		return generate(args[1], args[2], args[3])
	}
	if args[0] == "tiles" {
		return tiles(args[1], args[2])
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return "", err
	}
	if args[0] == "checkpoint" {
		found, err := open(args[1], data)
		return fmt.Sprintf("%s %d %s", found.origin, found.size, found.root), err
	}
	var given proof
	if err := json.Unmarshal(data, &given); err != nil {
		return "", err
	}
	now, err := open(args[1], []byte(given.Checkpoint))
	if err != nil {
		return "", err
	}
	hashes, err := parse(given.Hashes)
	if err != nil {
		return "", err
	}
	if args[0] == "inclusion" {
		err := tlog.CheckRecord(hashes, now.size, now.root, given.Seq, tlog.RecordHash([]byte(given.Record)))
		return fmt.Sprintf("record %d of %d", given.Seq, now.size), err
	}
	old, err := open(args[1], []byte(given.Old.Checkpoint))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d to %d", old.size, now.size), tlog.CheckTree(hashes, now.size, now.root, old.size, old.root)
}

// open verifies a checkpoint's signature and reads its three lines.
func open(key string, data []byte) (tree, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return tree{}, err
	}
	found, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tree{}, err
	}
	lines := strings.Split(found.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tree{}, errors.New("no checkpoint of the key's log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tree{lines[0], size, root}, err
}

func parse(texts []string) ([]tlog.Hash, error) {
	var hashes []tlog.Hash
	for _, text := range texts {
		hash, err := tlog.ParseHash(text)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

// directory reads tiles from files; the module's own paths have the tile's height in them, C2SP's have not.
type directory string

func (d directory) Height() int { return 8 }

func (d directory) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, tile := range wanted {
		read, err := os.ReadFile(d.path(tile))
		if err != nil {
			return nil, err
		}
		data = append(data, read)
	}
	return data, nil
}

func (d directory) SaveTiles([]tlog.Tile, [][]byte) {}

func (d directory) path(tile tlog.Tile) string {
	return filepath.Join(string(d), strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
}

func tiles(key, dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return "", err
	}
	now, err := open(key, data)
	if err != nil {
		return "", err
	}
	reader := tlog.TileHashReader(tlog.Tree{N: now.size, Hash: now.root}, directory(dir))
	root, err := tlog.TreeHash(now.size, reader)
	if err != nil || root != now.root {
		return "", fmt.Errorf("the tiles give another root: %v", err)
	}
	for first := int64(0); first < now.size; first += 256 {
		width := now.size - first
		if width > 256 {
			width = 256
		}
		path := directory(dir).path(tlog.Tile{H: 8, L: 0, N: first / 256, W: int(width)})
		bundle, err := os.ReadFile(strings.Replace(path, "/tile/0/", "/tile/entries/", 1))
		if err != nil {
			return "", err
		}
		for at := first; at < first+width; at++ {
			length := int(binary.BigEndian.Uint16(bundle))
			entry := bundle[2 : 2+length]
			bundle = bundle[2+length:]
			hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, at)})
			if err != nil || hashes[0] != tlog.RecordHash(entry) {
				return "", fmt.Errorf("entry %d is not the one in the tree: %v", at, err)
			}
		}
		if len(bundle) != 0 {
			return "", errors.New("bytes behind the last entry of a bundle")
		}
	}
	return fmt.Sprintf("%d entries", now.size), nil
}

func generate(origin, count, index string) (string, error) {
	n, _ := strconv.ParseInt(count, 10, 64)
	seq, _ := strconv.ParseInt(index, 10, 64)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var found []tlog.Hash
		for _, at := range indexes {
			found = append(found, stored[at])
		}
		return found, nil
	})
	record := func(i int64) string { return fmt.Sprintf("record %d\n", i) }
	for i := int64(0); i < n; i++ {
		hashes, err := tlog.StoredHashes(i, []byte(record(i)), reader)
		if err != nil {
			return "", err
		}
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(n, reader)
	if err != nil {
		return "", err
	}
	path, err := tlog.ProveRecord(n, seq, reader)
	if err != nil {
		return "", err
	}
	secret, public, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		return "", err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, n, base64.StdEncoding.EncodeToString(root[:]))
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return "", err
	}
	made := proof{Hashes: []string{}, Proof: "fhir-hook inclusion proof 1", Seq: seq, Record: record(seq), Checkpoint: string(signed)}
	for _, hash := range path {
		made.Hashes = append(made.Hashes, hash.String())
	}
	out, err := json.Marshal(map[string]any{"key": public, "secret": secret, "proof": made})
	return string(out), err
}
