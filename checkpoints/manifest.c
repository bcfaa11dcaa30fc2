// manifest.msgpack: what a checkpoint is and how to know that it is whole.
//
// The file is a map {"xxh3_64": checksum, "manifest": binary}. The binary is itself MessagePack and
// holds everything, so that one checksum covers it all (docs/formats.md). Each file of the
// checkpoint is listed with its size, the checksum of its header and one for each tensor; together
// they cover every byte.
#include "checkpoints/internal.h"

#include <stdlib.h>
#include <string.h>

const char MANIFEST_FILE[] = "manifest.msgpack";
static const char FORMAT_NAME[] = "sterna-checkpoint";
static const char HINT[] = "the checkpoint is damaged: an older one will do, or copy it again";
enum { FORMAT_VERSION = 2 };  // the newest that is read; written: what earlier versions may read

void manifest_free(Manifest *m) {
    free(m->config);
    free(m->state);
    *m = (Manifest){0};
}

void filetable__free(FileTable *files) {
    for (int i = 0; i < files->count; i++) free(files->files[i].tensor_hash);
    free(files->files);
    *files = (FileTable){0};
}

// --- writing ---

static void pack_hash128(PackOut *w, const char *key, Hash128 h) {
    packout_text(w, key);
    packout_array(w, 2);
    packout_u64(w, h.low);
    packout_u64(w, h.high);
}

static void pack_integer(PackOut *w, const char *key, int64_t v) {
    packout_text(w, key);
    packout_i64(w, v);
}

// The names are for people and other programs; the checksums are read by position.
static void pack_file(PackOut *w, const FileRecord *r, const Slice *layout) {
    packout_map(w, 4);
    packout_text(w, "file");
    packout_text(w, r->file);
    packout_text(w, "bytes");
    packout_u64(w, r->bytes);
    packout_text(w, "header_xxh3_64");
    packout_u64(w, r->header_hash);
    packout_text(w, "tensors");  // [[name, checksum], ...] in the file's order
    packout_array(w, (uint32_t)r->tensor_count);
    for (int i = 0; i < r->tensor_count; i++) {
        packout_array(w, 2);
        packout_text(w, layout[i].tensor);
        packout_u64(w, r->tensor_hash[i]);
    }
}

// Keys are explained in docs/formats.md. Config and state are binary: their length has no limit of
// a text's.
static void pack_manifest(PackOut *w, const Manifest *m, const FileTable *files,
                          const CkptPart *parts) {
    const char *config = m->config == NULL ? "" : m->config;
    packout_map(w, 12);
    packout_text(w, "format");
    packout_text(w, FORMAT_NAME);
    pack_integer(w, "version", m->version > 1 ? m->version : 1);
    pack_integer(w, "step", m->step);
    pack_integer(w, "dp", m->dp);
    pack_integer(w, "sp", m->sp);
    pack_integer(w, "tp", m->tp);
    packout_text(w, "real");
    packout_text(w, REAL_NAME);
    packout_text(w, "config");
    packout_bytes(w, config, (uint32_t)strlen(config));
    packout_text(w, "state");
    packout_bytes(w, m->state == NULL ? "" : m->state, (uint32_t)m->state_bytes);
    pack_hash128(w, "corpus", m->corpus);
    pack_hash128(w, "tokenizer", m->tokenizer);
    packout_text(w, "files");
    packout_array(w, (uint32_t)files->count);
    for (int i = 0; i < files->count; i++) pack_file(w, &files->files[i], parts[i].layout);
}

Status manifest__write(const char *step_dir, const Manifest *m, const FileTable *files,
                       const CkptPart *parts) {
    ASSERT(m->state_bytes < UINT32_MAX / 2);
    char path[PATH_BYTES];
    path_join(path, step_dir, MANIFEST_FILE);
    PackOut *inner = packout_new(), *outer = packout_new();
    pack_manifest(inner, m, files, parts);

    size_t bytes;
    const char *body = packout_data(inner, &bytes);
    packout_map(outer, 2);
    packout_text(outer, "xxh3_64");
    packout_u64(outer, hash64(body, bytes));
    packout_text(outer, "manifest");
    packout_bytes(outer, body, (uint32_t)bytes);
    const char *whole = packout_data(outer, &bytes);
    Status st = file_write(path, whole, bytes);
    packout_free(inner);
    packout_free(outer);
    return st;
}

// --- reading ---

// A copy with a NUL behind it.
static Status copy_bytes(const PackValue *root, char **out, size_t *bytes, const char *key) {
    uint32_t n;
    const void *data;
    TRY(pack_bytes(&data, &n, root, key));
    *out = malloc((size_t)n + 1);
    if (*out == NULL) FAIL(E_NOMEM, "free memory on this machine", "no memory for '%s'", key);
    memcpy(*out, data, n);
    (*out)[n] = '\0';
    *bytes = n;
    return OK;
}

static Status read_hash128(const PackValue *root, const char *key, Hash128 *out) {
    const PackValue *pair;
    uint32_t count;
    TRY(pack_array(&pair, &count, root, key));
    TRY(pack_item_u64(&out->low, pair, 0));
    return pack_item_u64(&out->high, pair, 1);
}

// An axis of the mesh that saved: at least 1.
static Status read_extent(const PackValue *root, const char *key, int *out) {
    int64_t v;
    TRY(pack_i64(&v, root, key));
    if (v < 1 || v > INT32_MAX) FAIL(E_FORMAT, HINT, "'%s' is %lld", key, (long long)v);
    *out = (int)v;
    return OK;
}

// The checksum finds accidents, not forgeries: values are checked as if there were none.
static Status read_values(const PackValue *root, Manifest *m) {
    char format[64];
    int64_t version;
    TRY(pack_text(format, sizeof format, root, "format"));
    TRY(pack_i64(&version, root, "version"));
    if (strcmp(format, FORMAT_NAME) != 0) FAIL(E_FORMAT, HINT, "not a checkpoint of this program");
    if (version > FORMAT_VERSION) {
        FAIL(E_NEWER,
             "go on with the version of sterna that wrote it; to go on from an older checkpoint, "
             "move this one away",
             "format version %lld, this program reads %d", (long long)version, FORMAT_VERSION);
    }
    if (version < 1) FAIL(E_FORMAT, HINT, "'version' is %lld", (long long)version);
    TRY(pack_i64(&m->step, root, "step"));
    if (m->step < 0) FAIL(E_FORMAT, HINT, "'step' is negative");
    TRY(read_extent(root, "dp", &m->dp));
    TRY(read_extent(root, "sp", &m->sp));
    TRY(read_extent(root, "tp", &m->tp));
    TRY(read_hash128(root, "corpus", &m->corpus));
    TRY(read_hash128(root, "tokenizer", &m->tokenizer));
    size_t bytes;
    TRY(copy_bytes(root, &m->config, &bytes, "config"));
    return copy_bytes(root, &m->state, &m->state_bytes, "state");
}

// A file name is joined to the directory later, so it must not lead out of it.
static Status read_file_record(const PackValue *v, FileRecord *r) {
    const PackValue *tensors, *pair;
    uint32_t count;
    TRY(pack_text(r->file, sizeof r->file, v, "file"));
    if (!file__is_plain(r->file)) FAIL(E_FORMAT, HINT, "'%s' is not a plain file name", r->file);
    TRY(pack_u64(&r->bytes, v, "bytes"));
    TRY(pack_u64(&r->header_hash, v, "header_xxh3_64"));
    TRY(pack_array(&tensors, &count, v, "tensors"));
    if (count > INT32_MAX) FAIL(E_FORMAT, HINT, "%s: %u tensors", r->file, count);
    r->tensor_hash = calloc((size_t)count + 1, sizeof *r->tensor_hash);
    if (r->tensor_hash == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "no memory for checksums");
    r->tensor_count = (int)count;
    for (uint32_t i = 0; i < count; i++) {
        TRY(pack_item(&pair, tensors, i));
        TRY(pack_item_u64(&r->tensor_hash[i], pair, 1));
    }
    return OK;
}

static Status read_files(const PackValue *root, FileTable *files) {
    const PackValue *list, *file;
    uint32_t count;
    TRY(pack_array(&list, &count, root, "files"));
    if (count > INT32_MAX) FAIL(E_FORMAT, HINT, "%u files", count);
    files->files = calloc((size_t)count + 1, sizeof *files->files);
    if (files->files == NULL)
        FAIL(E_NOMEM, "free memory on this machine", "no memory for the list of files");
    for (uint32_t i = 0; i < count; i++) {
        files->count++;  // before reading: what a failed record holds is freed with the table
        TRY(pack_item(&file, list, i));
        TRY(read_file_record(file, &files->files[i]));
    }
    return OK;
}

// The body is taken only when its checksum is right.
static Status read_body(const char *data, size_t bytes, Manifest *m, FileTable *files) {
    Status st = OK;
    Pack *outer = NULL, *inner = NULL;
    TRY_GOTO(pack_open(&outer, data, bytes, MANIFEST_FILE));
    uint32_t n;
    uint64_t checksum;
    const void *body;
    TRY_GOTO(pack_bytes(&body, &n, pack_root(outer), "manifest"));
    TRY_GOTO(pack_u64(&checksum, pack_root(outer), "xxh3_64"));
    if (hash64(body, n) != checksum) {
        st = err_set(E_FORMAT, HINT, "the checksum of its contents is wrong");
        goto done;
    }
    TRY_GOTO(pack_open(&inner, body, n, MANIFEST_FILE));
    TRY_GOTO(read_values(pack_root(inner), m));
    TRY_GOTO(read_files(pack_root(inner), files));
done:
    if (inner != NULL) pack_close(inner);
    if (outer != NULL) pack_close(outer);
    return st;
}

// Under another step's name it would go on, or be kept and removed, in that one's place. It is no
// damage either: a user has made a copy.
static Status check_step(const char *step_dir, int64_t step) {
    int64_t named = step__of_dir(step_dir);
    if (named < 0 || named == step) return OK;
    FAIL(E_USAGE, "give the directory its name back, or move it out of there",
         "this is step %lld, the directory is step %lld's", (long long)step, (long long)named);
}

// On failure both outputs are empty, and the message names the file.
Status manifest__read(const char *step_dir, Manifest *m, FileTable *files) {
    *m = (Manifest){0};
    *files = (FileTable){0};
    TRY(path__check(step_dir));
    char path[PATH_BYTES], *data = NULL;
    path_join(path, step_dir, MANIFEST_FILE);
    size_t bytes;
    TRY(path_look(path));
    TRY(file_read(path, &data, &bytes));
    files->hash = hash64(data, bytes);
    Status st = read_body(data, bytes, m, files);
    free(data);
    if (st == OK) st = check_step(step_dir, m->step);
    if (st == OK) return OK;
    manifest_free(m);
    filetable__free(files);
    return err_context(st, "%s", path);
}

Status checkpoint_manifest(const char *step_dir, Manifest *m) {
    FileTable files;
    TRY(manifest__read(step_dir, m, &files));
    filetable__free(&files);
    return OK;
}

// --- verifying ---

// `first` is the running number of the file's first tensor: ranks share tensors, not files, for
// sizes differ.
static Status verify_file(const char *path, const FileRecord *r, size_t first, int rank, int size) {
    uint64_t bytes;
    TRY(file_size(path, &bytes));  // before anything is mapped: a short file is the common damage
    if (bytes != r->bytes) {
        FAIL(E_FORMAT, HINT, "%s has %llu bytes, the manifest says %llu", path,
             (unsigned long long)bytes, (unsigned long long)r->bytes);
    }
    StFile *f = NULL;
    TRY(st_open(&f, path));
    Status st = OK;
    size_t header_bytes;
    const void *header = st__header(f, &header_bytes);
    if (hash64(header, header_bytes) != r->header_hash || st_count(f) != r->tensor_count) {
        st = err_set(E_FORMAT, HINT, "%s: the checksum of its header is wrong", path);
    }
    for (int i = 0; i < r->tensor_count && st == OK; i++) {
        if ((first + (size_t)i) % (size_t)size != (size_t)rank) continue;
        const StTensor *t = st_tensor(f, i);
        if (hash64(st_data(f, t), (size_t)t->bytes) != r->tensor_hash[i]) {
            st = err_set(E_FORMAT, HINT, "%s: the checksum of tensor '%s' is wrong", path, t->name);
        } else {
            st = tensor__check(f, t);
        }
    }
    st_close(f);
    return st;
}

Status files__look(const char *step_dir, const FileTable *files) {
    for (int i = 0; i < files->count; i++) {
        char path[PATH_BYTES];
        path_join(path, step_dir, files->files[i].file);
        TRY(path_look(path));
    }
    return OK;
}

Status files__verify(const char *step_dir, const FileTable *files, int rank, int size) {
    size_t first = 0;
    for (int i = 0; i < files->count; i++) {
        char path[PATH_BYTES];
        path_join(path, step_dir, files->files[i].file);
        TRY(verify_file(path, &files->files[i], first, rank, size));
        first += (size_t)files->files[i].tensor_count;
    }
    return OK;
}

Status checkpoint_verify(const char *step_dir) {
    Manifest m;
    FileTable files;
    TRY(manifest__read(step_dir, &m, &files));
    Status st = files__verify(step_dir, &files, 0, 1);
    manifest_free(&m);
    filetable__free(&files);
    return st;
}
