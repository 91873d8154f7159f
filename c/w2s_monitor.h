/* A microphone: network, speech detection and baseline together, with the windows of wav2small/runtime/stream.py.
 *
 * A token belongs to a window if all its samples do, as in wav2small/runtime/engines.py. Included by w2s.c.
 */
#define W2S_MONITOR_MIN_HOP 1600
#define W2S_MONITOR_MIN_SPEECH_DUR 1.0f /* seconds of speech in a window; a shorter one than 3 s needs less in proportion */
#define W2S_MONITOR_WHOLE_DUR 3.0f

#if W2S_PARTS > 0

/* Sample before which the part of a window, counted from 0, has to begin: the end of the last token that starts earlier. */
static int64_t part_start(const w2s_monitor *monitor, uint32_t window)
{
    const int64_t token_length = W2S_HOP_LENGTH * W2S_FRAMES_A_TOKEN, start = (int64_t)window * monitor->hop_length;
    return (start + token_length - 1) / token_length * token_length - token_length + W2S_WIN_LENGTH;
}

static int64_t window_end(const w2s_monitor *monitor)
{
    return (int64_t)(monitor->answered + W2S_PARTS) * monitor->hop_length;
}

static float clipped(float value)
{
    return value < 0 ? 0 : value > 1 ? 1 : value;
}

/* Answer for the window that ends now, and include it in the baseline. */
static void answer(w2s_monitor *monitor, w2s_event *event)
{
    const float dur = (float)(W2S_PARTS * monitor->hop_length) / W2S_SAMPLING_RATE;
    const float needed = W2S_MONITOR_MIN_SPEECH_DUR * (dur < W2S_MONITOR_WHOLE_DUR ? dur / W2S_MONITOR_WHOLE_DUR : 1);
    const float new_dur = monitor->answered == 0 ? dur : (float)monitor->hop_length / W2S_SAMPLING_RATE;
    const w2s_event nothing = {w2s_speech_ratio(&monitor->speech, W2S_PARTS * monitor->hop_length), 0, 0, {0, 0, 0}, {0, 0, 0}};
    w2s_emotion *emotion = &event->emotion;
    *event = nothing;
    monitor->answered++;
    if (!(event->speech_ratio > 0 && event->speech_ratio * dur >= needed - 1e-6f)) return;
    if (w2s_read_window(&monitor->stream, W2S_PARTS, emotion, NULL) != W2S_OK) return;
    emotion->arousal = clipped(emotion->arousal);
    emotion->dominance = clipped(emotion->dominance);
    emotion->valence = clipped(emotion->valence);
    event->has_emotion = 1;
    event->has_deviation = (uint8_t)w2s_baseline_ready(&monitor->baseline);
    if (event->has_deviation) w2s_baseline_deviation(&monitor->baseline, emotion, &event->deviation);
    w2s_baseline_add(&monitor->baseline, emotion, new_dur * event->speech_ratio);
}

int w2s_monitor_init_checked(w2s_monitor *monitor, int hop_length, size_t bytes, uint32_t id)
{
    if (bytes != sizeof *monitor) return W2S_OTHER_MODEL;
    if (W2S_LEVEL_FRAMES == 0) return W2S_OTHER_LEVEL;
    if (hop_length < W2S_MONITOR_MIN_HOP || hop_length > W2S_SAMPLING_RATE) return W2S_BAD_LENGTH;
    monitor->hop_length = hop_length;
    monitor->answered = 0;
    monitor->begun = 1; /* the first part begins with the stream */
    monitor->received = 0;
    w2s_baseline_init(&monitor->baseline, 0);
    w2s_speech_init(&monitor->speech);
    return w2s_init_checked(&monitor->stream, sizeof monitor->stream, id);
}

int w2s_monitor_push(w2s_monitor *monitor, const int16_t *samples, int n, w2s_event *event)
{
    int has_event = 0;
    if (n < 0) return W2S_BAD_LENGTH;
    while (n > 0) {
        const int64_t to_end = window_end(monitor) - monitor->received;
        int length = smaller(n, (int)to_end);
        if (monitor->begun < monitor->answered + W2S_PARTS) {
            const int64_t to_part = part_start(monitor, monitor->begun) - monitor->received;
            if (to_part <= 0) {
                w2s_mark(&monitor->stream);
                monitor->begun++;
                continue;
            }
            length = smaller(length, (int)to_part);
        }
        const int tokens = w2s_push_int16(&monitor->stream, samples, length);
        if (tokens < 0) return tokens;
        w2s_speech_push_int16(&monitor->speech, samples, length);
        monitor->received += length;
        samples += length;
        n -= length;
        if (length == to_end) {
            answer(monitor, event);
            has_event = 1;
        }
    }
    return has_event;
}

#endif
