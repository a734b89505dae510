/*
 * LiteRT's C functions for Java, by JNI: what ForeignLiteRt.java does where there is java.lang.foreign.
 * Structures and calls are those of edgesdk/backends/litert/native_model.py and host_memory.py, which say
 * what was found out about them. Nothing here decides: statuses go to Java as they are.
 *
 * Names of a file go as bytes: NewStringUTF ends the process at what is not Java's own UTF-8.
 */
#include <dlfcn.h>
#include <jni.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST_DIMENSIONS = 8, CPU = 1, BOOLEAN = 1, INTEGER = 2 };
enum { REGISTER_ACCELERATORS = 24, LEAST_SEVERITY = 25, SILENT = 4 };
enum { KEY = 0, INPUTS = 1, OUTPUTS = 2 };

/* LiteRtLayout: the rank in the lowest seven bits, then dimensions and strides. */
typedef struct {
  uint32_t rank;
  int32_t dimensions[MOST_DIMENSIONS];
  uint32_t strides[MOST_DIMENSIONS];
} Layout;

/* LiteRtRankedTensorType. */
typedef struct {
  int32_t element_type;
  Layout layout;
} TensorType;

/* LiteRtEnvOption: a tag, and a LiteRtAny, whose value is a union of 8 bytes. */
typedef struct {
  int32_t type;
  int64_t value;
} Any;
typedef struct {
  int32_t tag;
  Any any;
} Option;

#define FUNCTIONS(DO) \
  DO(LiteRtCreateEnvironment, int, (int, const void*, void**)) \
  DO(LiteRtDestroyEnvironment, void, (void*)) \
  DO(LiteRtCreateModelFromFile, int, (void*, const char*, void**)) \
  DO(LiteRtDestroyModel, void, (void*)) \
  DO(LiteRtCreateOptions, int, (void**)) \
  DO(LiteRtDestroyOptions, void, (void*)) \
  DO(LiteRtSetOptionsHardwareAccelerators, int, (void*, int)) \
  DO(LiteRtCreateOpaqueOptions, int, (const char*, void*, void (*)(void*), void**)) \
  DO(LiteRtAddOpaqueOptions, int, (void*, void*)) \
  DO(LiteRtCreateCompiledModel, int, (void*, void*, void*, void**)) \
  DO(LiteRtDestroyCompiledModel, void, (void*)) \
  DO(LiteRtGetNumModelSignatures, int, (void*, size_t*)) \
  DO(LiteRtGetModelSignature, int, (void*, size_t, void**)) \
  DO(LiteRtGetSignatureKey, int, (void*, const char**)) \
  DO(LiteRtGetNumSignatureInputs, int, (void*, size_t*)) \
  DO(LiteRtGetSignatureInputName, int, (void*, size_t, const char**)) \
  DO(LiteRtGetNumSignatureOutputs, int, (void*, size_t*)) \
  DO(LiteRtGetSignatureOutputName, int, (void*, size_t, const char**)) \
  DO(LiteRtGetCompiledModelInputTensorLayout, int, (void*, size_t, size_t, Layout*)) \
  DO(LiteRtCompiledModelResizeInputTensorNonStrict, int, (void*, size_t, size_t, const int*, size_t)) \
  DO(LiteRtRunCompiledModel, int, (void*, size_t, size_t, void**, size_t, void**)) \
  DO(LiteRtCreateTensorBufferFromHostMemory, int, (const TensorType*, void*, size_t, void (*)(void*), void**)) \
  DO(LiteRtDestroyTensorBuffer, void, (void*))

typedef struct {
#define DECLARE(name, result, arguments) result(*name) arguments;
  FUNCTIONS(DECLARE)
} Functions;

/* A file that is open, and the text of its options, whose address LiteRT keeps. */
typedef struct {
  const Functions* call;
  void* environment;
  void* model;
  void* options;
  void* compiled;
  char* xnnpack;
} Opened;

#define JAVA(result, name) JNIEXPORT result JNICALL Java_edgemodel_litert_JniLiteRt_##name
#define AT(type, handle) ((type*)(intptr_t)(handle))

static void keep(void* text) { (void)text; }

/* A copy with a zero behind it; NULL where memory is out. */
static char* text_of(JNIEnv* java, jbyteArray bytes) {
  jsize length = (*java)->GetArrayLength(java, bytes);
  char* text = malloc((size_t)length + 1);
  if (text != NULL) {
    (*java)->GetByteArrayRegion(java, bytes, 0, length, (jbyte*)text);
    text[length] = 0;
  }
  return text;
}

/* Opens the library, which stays open; failed[0] is what is missing. */
JAVA(jlong, load)(JNIEnv* java, jclass type, jbyteArray path, jobjectArray failed) {
  (void)type;
  char* name = text_of(java, path);
  void* library = name == NULL ? NULL : dlopen(name, RTLD_NOW | RTLD_LOCAL);
  free(name);
  if (library == NULL) return 0;
  Functions* call = calloc(1, sizeof *call);
  if (call == NULL) return 0;
#define FIND(name, result, arguments) \
  *(void**)&call->name = dlsym(library, #name); \
  if (call->name == NULL) { \
    (*java)->SetObjectArrayElement(java, failed, 0, (*java)->NewStringUTF(java, #name)); \
    free(call); \
    return 0; \
  }
  FUNCTIONS(FIND)
  return (jlong)(intptr_t)call;
}

static void close_opened(Opened* opened) {
  const Functions* call = opened->call;
  if (opened->compiled != NULL) call->LiteRtDestroyCompiledModel(opened->compiled);
  if (opened->options != NULL) call->LiteRtDestroyOptions(opened->options);
  if (opened->model != NULL) call->LiteRtDestroyModel(opened->model);
  if (opened->environment != NULL) call->LiteRtDestroyEnvironment(opened->environment);
  free(opened->xnnpack);
  free(opened);
}

/* Runs a call of `open`; what failed is told by its place and status. */
#define STEP(number, expression) \
  step = number; \
  if ((status = (expression)) != 0) goto failed

/* failed: the place of what LiteRT refused, and its status. */
JAVA(jlong, open)(JNIEnv* java, jclass type, jlong functions, jbyteArray file, jbyteArray xnnpack, jintArray failed) {
  (void)type;
  const Functions* call = AT(const Functions, functions);
  int step = 0, status = -1;
  void* opaque = NULL;
  char* path = NULL;
  Opened* opened = calloc(1, sizeof *opened);
  if (opened == NULL) return 0;
  opened->call = call;
  opened->xnnpack = text_of(java, xnnpack);
  path = text_of(java, file);
  if (path == NULL || opened->xnnpack == NULL) goto failed;
  /* Accelerators of other devices would be looked for, and what is not found reported. */
  Option wanted[2];
  memset(wanted, 0, sizeof wanted);
  wanted[0] = (Option){REGISTER_ACCELERATORS, {BOOLEAN, 0}};
  wanted[1] = (Option){LEAST_SEVERITY, {INTEGER, SILENT}};
  STEP(0, call->LiteRtCreateEnvironment(2, wanted, &opened->environment));
  STEP(1, call->LiteRtCreateModelFromFile(opened->environment, path, &opened->model));
  STEP(2, call->LiteRtCreateOptions(&opened->options));
  STEP(3, call->LiteRtSetOptionsHardwareAccelerators(opened->options, CPU));
  STEP(4, call->LiteRtCreateOpaqueOptions("xnnpack", opened->xnnpack, keep, &opaque));
  STEP(5, call->LiteRtAddOpaqueOptions(opened->options, opaque));
  STEP(6, call->LiteRtCreateCompiledModel(opened->environment, opened->model, opened->options, &opened->compiled));
  free(path);
  return (jlong)(intptr_t)opened;
failed:
  free(path);
  close_opened(opened);
  jint found[2] = {step, status};
  (*java)->SetIntArrayRegion(java, failed, 0, 2, found);
  return 0;
}

JAVA(void, close)(JNIEnv* java, jclass type, jlong opened) {
  (void)java, (void)type;
  close_opened(AT(Opened, opened));
}

/* How many signatures, or inputs or outputs of one; -1 where LiteRT does not tell. */
JAVA(jint, count)(JNIEnv* java, jclass type, jlong handle, jint signature, jint kind) {
  (void)java, (void)type;
  Opened* opened = AT(Opened, handle);
  const Functions* call = opened->call;
  size_t found = 0;
  void* one = NULL;
  if (kind == KEY) return call->LiteRtGetNumModelSignatures(opened->model, &found) == 0 ? (jint)found : -1;
  if (call->LiteRtGetModelSignature(opened->model, (size_t)signature, &one) != 0) return -1;
  int status = kind == INPUTS ? call->LiteRtGetNumSignatureInputs(one, &found)
                              : call->LiteRtGetNumSignatureOutputs(one, &found);
  return status == 0 ? (jint)found : -1;
}

/* The name of a signature, or of an input or output of it, as bytes; NULL where LiteRT does not tell. */
JAVA(jbyteArray, name)(JNIEnv* java, jclass type, jlong handle, jint signature, jint kind, jint place) {
  (void)type;
  Opened* opened = AT(Opened, handle);
  const Functions* call = opened->call;
  void* one = NULL;
  const char* text = NULL;
  if (call->LiteRtGetModelSignature(opened->model, (size_t)signature, &one) != 0) return NULL;
  int status = kind == KEY      ? call->LiteRtGetSignatureKey(one, &text)
               : kind == INPUTS ? call->LiteRtGetSignatureInputName(one, (size_t)place, &text)
                                : call->LiteRtGetSignatureOutputName(one, (size_t)place, &text);
  if (status != 0 || text == NULL) return NULL;
  jsize length = (jsize)strlen(text);
  jbyteArray bytes = (*java)->NewByteArray(java, length);
  if (bytes != NULL) (*java)->SetByteArrayRegion(java, bytes, 0, length, (const jbyte*)text);
  return bytes;
}

/* The rank of an input, its dimensions in `into`; -1 where LiteRT does not tell. */
JAVA(jint, inputShape)(JNIEnv* java, jclass type, jlong handle, jint signature, jint place, jintArray into) {
  (void)type;
  Opened* opened = AT(Opened, handle);
  Layout layout;
  memset(&layout, 0, sizeof layout);
  int status = opened->call->LiteRtGetCompiledModelInputTensorLayout(
      opened->compiled, (size_t)signature, (size_t)place, &layout);
  jint rank = (jint)(layout.rank & 0x7F);
  if (status != 0 || rank > MOST_DIMENSIONS) return -1;
  (*java)->SetIntArrayRegion(java, into, 0, rank, (const jint*)layout.dimensions);
  return rank;
}

JAVA(jint, resize)(JNIEnv* java, jclass type, jlong handle, jint signature, jint place, jintArray dimensions) {
  (void)type;
  Opened* opened = AT(Opened, handle);
  jint copied[MOST_DIMENSIONS];
  jsize rank = (*java)->GetArrayLength(java, dimensions);
  if (rank > MOST_DIMENSIONS) return -1;
  (*java)->GetIntArrayRegion(java, dimensions, 0, rank, copied);
  return opened->call->LiteRtCompiledModelResizeInputTensorNonStrict(
      opened->compiled, (size_t)signature, (size_t)place, (const int*)copied, (size_t)rank);
}

/* Runs a signature over two arrays of buffers' handles, in direct memory. */
JAVA(jint, run)(JNIEnv* java, jclass type, jlong handle, jint signature, jint inputs, jobject in, jint outputs, jobject out) {
  (void)type;
  Opened* opened = AT(Opened, handle);
  void** given = (*java)->GetDirectBufferAddress(java, in);
  void** results = (*java)->GetDirectBufferAddress(java, out);
  return opened->call->LiteRtRunCompiledModel(
      opened->compiled, (size_t)signature, (size_t)inputs, given, (size_t)outputs, results);
}

/* A buffer over direct memory, in made[0]; the memory must outlive it. Returns LiteRT's status. */
JAVA(jint, buffer)(JNIEnv* java, jclass type, jlong functions, jint element, jintArray shape, jobject memory, jlongArray made) {
  (void)type;
  TensorType described;
  memset(&described, 0, sizeof described);
  jsize rank = (*java)->GetArrayLength(java, shape);
  if (rank > MOST_DIMENSIONS) return -1;
  described.element_type = element;
  described.layout.rank = (uint32_t)rank;
  (*java)->GetIntArrayRegion(java, shape, 0, rank, (jint*)described.layout.dimensions);
  void* buffer = NULL;
  int status = AT(const Functions, functions)->LiteRtCreateTensorBufferFromHostMemory(
      &described, (*java)->GetDirectBufferAddress(java, memory),
      (size_t)(*java)->GetDirectBufferCapacity(java, memory), NULL, &buffer);
  jlong found = (jlong)(intptr_t)buffer;
  (*java)->SetLongArrayRegion(java, made, 0, 1, &found);
  return status;
}

JAVA(void, destroyBuffer)(JNIEnv* java, jclass type, jlong functions, jlong buffer) {
  (void)java, (void)type;
  AT(const Functions, functions)->LiteRtDestroyTensorBuffer(AT(void, buffer));
}

JAVA(jlong, address)(JNIEnv* java, jclass type, jobject memory) {
  (void)type;
  return (jlong)(intptr_t)(*java)->GetDirectBufferAddress(java, memory);
}

/* Memory with the name of a file; -1 where the system has none. By number: bionic has the call since API 30. */
JAVA(jint, memoryFile)(JNIEnv* java, jclass type) {
  (void)java, (void)type;
  return (jint)syscall(SYS_memfd_create, "edgemodel packed weights", 0u);
}

JAVA(void, forgetMemoryFile)(JNIEnv* java, jclass type, jint descriptor) {
  (void)java, (void)type;
  close(descriptor);
}
