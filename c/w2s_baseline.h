/* A speaker's own baseline: a robust running mean and spread of each dimension, and how far a prediction is from it.
 *
 * The same algorithm as wav2small/runtime/baseline.py, which explains the constants. Included by w2s.c.
 */
#define W2S_BASELINE_PRIOR_DUR 20.0f
#define W2S_BASELINE_PRIOR_MEAN 0.45f
#define W2S_BASELINE_PRIOR_SPREAD 0.12f
#define W2S_BASELINE_CLIP 2.0f
#define W2S_BASELINE_TO_SPREAD 1.28f
#define W2S_BASELINE_MIN_SPREAD 0.03f

static float unit_of(float spread) /* of a deviation */
{
    return spread > W2S_BASELINE_MIN_SPREAD ? spread : W2S_BASELINE_MIN_SPREAD;
}

/* Move the mean and spread of one dimension towards a value. */
static void add_to(float *mean, float *spread, float value, float rate)
{
    const float most = W2S_BASELINE_CLIP * unit_of(*spread), difference = value - *mean;
    const float step = difference < -most ? -most : difference > most ? most : difference;
    *mean += rate * step;
    *spread += rate * (W2S_BASELINE_TO_SPREAD * (step < 0 ? -step : step) - *spread);
}

void w2s_baseline_init(w2s_baseline *baseline, float forget_dur)
{
    const float mean = W2S_BASELINE_PRIOR_MEAN, spread = W2S_BASELINE_PRIOR_SPREAD;
    const w2s_baseline average = {forget_dur, 0, {mean, mean, mean}, {spread, spread, spread}};
    *baseline = average;
}

void w2s_baseline_add(w2s_baseline *baseline, const w2s_emotion *emotion, float speech_dur)
{
    w2s_emotion *mean = &baseline->mean, *spread = &baseline->spread;
    baseline->speech_dur += speech_dur;
    const int forgets = baseline->forget_dur > 0 && baseline->speech_dur > baseline->forget_dur;
    const float counted = forgets ? baseline->forget_dur : baseline->speech_dur;
    const float share = speech_dur / (W2S_BASELINE_PRIOR_DUR + counted), rate = share < 1 ? share : 1;
    add_to(&mean->arousal, &spread->arousal, emotion->arousal, rate);
    add_to(&mean->dominance, &spread->dominance, emotion->dominance, rate);
    add_to(&mean->valence, &spread->valence, emotion->valence, rate);
}

void w2s_baseline_deviation(const w2s_baseline *baseline, const w2s_emotion *emotion, w2s_emotion *deviation)
{
    const w2s_emotion *mean = &baseline->mean, *spread = &baseline->spread;
    deviation->arousal = (emotion->arousal - mean->arousal) / unit_of(spread->arousal);
    deviation->dominance = (emotion->dominance - mean->dominance) / unit_of(spread->dominance);
    deviation->valence = (emotion->valence - mean->valence) / unit_of(spread->valence);
}

int w2s_baseline_ready(const w2s_baseline *baseline)
{
    return baseline->speech_dur >= W2S_BASELINE_READY_DUR;
}
