# The training audio of the shipped students: learn ROUND -o FOLDER --student NAME ...
# A round has clips of its own: it is the seed, and the runs of a round share a ring. recipes/open.sh and
# recipes/students.sh source this, with $open and $run set, and $DEVICE if it is not the default.
#
# Bursts are drawn less than their number, and what is acted or expressive more. Rows of fold 0 are the dev speakers.
names="EmoDB, EmoGator, SDAP, Tohoku HTS voices, LibriSpeech, Picovoice speech-to-intent, speechocean762"
names+=", Mycroft Precise, Arabic speech commands, accents, Kathleen, Kerstin"
learn() {
    wav2small distil "$open/emodb,$run/emodb-voices,$run/emodb-voices2" --share emodb=90 \
        "$open/emogator" --share emogator=40 "$open/sdap,$run/sdap-voices" --share sdap=25 \
        "$run/tohoku" --share tohoku=25 "$open/librispeech" --share librispeech=25 \
        "$open/picovoice" --share picovoice=25 "$open/speechocean" --share speechocean=25 \
        "$open/mycroft" --share mycroft=12 "$open/arabic_commands" --share arabic_commands=12 \
        "$open/accents" --share accents=20 "$open/kathleen" --share kathleen=12 "$open/kerstin" --share kerstin=12 \
        --noise "$open/noise" --rooms "$open/rooms" --teacher "$run/open.safetensors" --ring "$run/ring-$1" \
        --seed "$1" --data "$names" --device "${DEVICE:-auto}" "${@:2}"
}
