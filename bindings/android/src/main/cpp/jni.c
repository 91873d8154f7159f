/* The functions of Native in Wav2Small.kt: w2s.h for the Java virtual machine. A stream is a direct ByteBuffer, a baseline
 * an array of eight floats. */
#include <jni.h>

#include "w2s.h"

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_wav2small_Native_##name

enum { NUMBERS = sizeof(w2s_baseline) / sizeof(jfloat) };

static w2s_stream *stream_of(JNIEnv *env, jobject memory)
{
    return (*env)->GetDirectBufferAddress(env, memory);
}

static w2s_baseline baseline_of(JNIEnv *env, jfloatArray numbers)
{
    w2s_baseline baseline;
    (*env)->GetFloatArrayRegion(env, numbers, 0, NUMBERS, (jfloat *)&baseline);
    return baseline;
}

static void write(JNIEnv *env, jfloatArray numbers, const void *values, jsize n)
{
    (*env)->SetFloatArrayRegion(env, numbers, 0, n, values);
}

NATIVE(jstring, describe)(JNIEnv *env, jclass self, jint index)
{
    const w2s_description *about = w2s_describe();
    const char *texts[] = {about->name, about->version, about->precision, about->licence, about->sha256};
    (void)self;
    return (*env)->NewStringUTF(env, texts[index]);
}

NATIVE(jint, streamBytes)(JNIEnv *env, jclass self)
{
    (void)env, (void)self;
    return (jint)sizeof(w2s_stream);
}

NATIVE(jint, init)(JNIEnv *env, jclass self, jobject memory)
{
    (void)self;
    return w2s_init(stream_of(env, memory));
}

NATIVE(jint, pushInt16)(JNIEnv *env, jclass self, jobject memory, jshortArray samples, jint n)
{
    (void)self;
    jshort *values = (*env)->GetShortArrayElements(env, samples, NULL);
    if (!values) return 0; /* out of memory: an exception is pending */
    const int tokens = w2s_push_int16(stream_of(env, memory), values, n);
    (*env)->ReleaseShortArrayElements(env, samples, values, JNI_ABORT);
    return tokens;
}

NATIVE(jint, pushFloat)(JNIEnv *env, jclass self, jobject memory, jfloatArray samples, jint n)
{
    (void)self;
    jfloat *values = (*env)->GetFloatArrayElements(env, samples, NULL);
    if (!values) return 0;
    const int tokens = w2s_push_float(stream_of(env, memory), values, n);
    (*env)->ReleaseFloatArrayElements(env, samples, values, JNI_ABORT);
    return tokens;
}

NATIVE(jint, finish)(JNIEnv *env, jclass self, jobject memory)
{
    (void)self;
    return w2s_finish(stream_of(env, memory));
}

NATIVE(jint, read)(JNIEnv *env, jclass self, jobject memory, jfloatArray emotion)
{
    (void)self;
    w2s_emotion values;
    const int result = w2s_read(stream_of(env, memory), &values, NULL);
    if (result == W2S_OK) write(env, emotion, &values, 3);
    return result;
}

NATIVE(jint, reset)(JNIEnv *env, jclass self, jobject memory)
{
    (void)self;
    return w2s_reset(stream_of(env, memory));
}

NATIVE(jint, level)(JNIEnv *env, jclass self, jobject memory, jfloat mean, jfloat variance)
{
    (void)self;
    return w2s_level(stream_of(env, memory), mean, variance);
}

NATIVE(void, baselineInit)(JNIEnv *env, jclass self, jfloatArray numbers, jfloat forget_dur)
{
    (void)self;
    w2s_baseline baseline;
    w2s_baseline_init(&baseline, forget_dur);
    write(env, numbers, &baseline, NUMBERS);
}

NATIVE(void, baselineAdd)(JNIEnv *env, jclass self, jfloatArray numbers, jfloat arousal, jfloat dominance, jfloat valence, jfloat speech_dur)
{
    (void)self;
    const w2s_emotion emotion = {arousal, dominance, valence};
    w2s_baseline baseline = baseline_of(env, numbers);
    w2s_baseline_add(&baseline, &emotion, speech_dur);
    write(env, numbers, &baseline, NUMBERS);
}

NATIVE(void, baselineDeviation)(JNIEnv *env, jclass self, jfloatArray numbers, jfloat arousal, jfloat dominance, jfloat valence, jfloatArray deviation)
{
    (void)self;
    const w2s_emotion emotion = {arousal, dominance, valence};
    const w2s_baseline baseline = baseline_of(env, numbers);
    w2s_emotion values;
    w2s_baseline_deviation(&baseline, &emotion, &values);
    write(env, deviation, &values, 3);
}

NATIVE(jboolean, baselineReady)(JNIEnv *env, jclass self, jfloatArray numbers)
{
    (void)self;
    const w2s_baseline baseline = baseline_of(env, numbers);
    return (jboolean)w2s_baseline_ready(&baseline);
}
