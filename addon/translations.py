"""The add-on's words in other languages. Blender translates labels by itself once it knows them.

A language is one table from English to its words; a word that is missing stays English. Operators have a context of
their own in Blender, and both are filled from the one table.
"""

from typing import Final

import bpy

_CONTEXTS: Final = ("*", "Operator")

GERMAN: Final = {
    "Add Capture Preset": "Aufnahme-Vorgabe hinzufügen",
    "Add Clean-Up Preset": "Bereinigungs-Vorgabe hinzufügen",
    "Add Correction Layer": "Korrekturebene hinzufügen",
    "Add Hand Take": "Hand-Take hinzufügen",
    "Add to Asset Libraries": "Zu den Asset-Bibliotheken hinzufügen",
    "Add to Queue": "In die Warteschlange",
    "Add to This Scene": "Zu dieser Szene hinzufügen",
    "As Seen": "Wie gesehen",
    "As They Are": "Wie sie sind",
    "Axes": "Achsen",
    "Build Hands": "Hände bauen",
    "Build Hands When Done": "Danach Hände bauen",
    "By the File": "Nach der Datei",
    "Calibrate": "Kalibrieren",
    "Capture": "Aufnahme",
    "Capture Presets": "Aufnahme-Vorgaben",
    "Captured Hands": "Aufgenommene Hände",
    "Clean Up": "Bereinigen",
    "Clean-Up Presets": "Bereinigungs-Vorgaben",
    "Cleaned": "Bereinigt",
    "Collect Takes": "Takes einsammeln",
    "Contact": "Berührung",
    "Correct Range": "Bereich korrigieren",
    "Correct a Range": "Bereich korrigieren",
    "Corrections": "Korrekturen",
    "Cup Palm": "Handteller wölben",
    "Current Action": "Vorhandene Aktion",
    "DIR Network": "DIR-Netz",
    "DIR Weights": "DIR-Gewichte",
    "Detect Bones": "Knochen erkennen",
    "Discard Capture": "Aufnahme verwerfen",
    "Draw Box": "Rahmen zeichnen",
    "Estimator": "Verfahren",
    "Existing": "Vorhandene",
    "Export": "Export",
    "Export Animation": "Animation exportieren",
    "Export Parameters": "Parameter exportieren",
    "Fewer Keys": "Weniger Keys",
    "Fill Gaps Up To": "Lücken füllen bis",
    "Fingers": "Finger",
    "Fingers Only": "Nur Finger",
    "Fist": "Faust",
    "Footage": "Filmmaterial",
    "From the Library": "Aus der Bibliothek",
    "From Mean Pose": "Von der mittleren Haltung",
    "From the Take": "Aus dem Take",
    "Gaps": "Lücken",
    "Hand": "Hand",
    "Hand Length": "Handlänge",
    "Hands": "Hände",
    "Hands and Fingers": "Hände und Finger",
    "Hold Still": "Stillhalten",
    "IK Limits": "IK-Grenzen",
    "Import Results": "Ergebnisse importieren",
    "In the Mirror": "Im Spiegel",
    "Joint Limits": "Gelenkgrenzen",
    "Jump to Problem": "Zur Stelle springen",
    "Key Hands": "Hände keyen",
    "Key Points": "Schlüsselpunkte",
    "Key onto Rig": "Auf das Rig keyen",
    "Keys": "Keys",
    "Keys Go Into": "Keys kommen in",
    "Landmarks": "Landmarken",
    "Left Hand": "Linke Hand",
    "Left Hands": "Linke Hände",
    "Left and Right": "Links und rechts",
    "Lens": "Objektiv",
    "Lens From": "Objektiv aus",
    "Licence": "Lizenz",
    "Live Preview": "Live-Vorschau",
    "Load Footage": "Film laden",
    "Look Through": "Durchsehen",
    "Look for Files": "Dateien suchen",
    "Longer Gaps": "Längere Lücken",
    "MANO Folder": "MANO-Ordner",
    "MANO Parameters": "MANO-Parameter",
    "Match Pose": "Pose angleichen",
    "MediaPipe Landmarks": "MediaPipe-Landmarken",
    "Mirrored Footage": "Gespiegelter Film",
    "My Own Python": "Eigenes Python",
    "New Action": "Neue Aktion",
    "Of a Selfie": "Eines Selfies",
    "Of the Picture": "Des Bildes",
    "Open Palm": "Offene Hand",
    "Picture Size": "Bildgröße",
    "Place before Camera": "Vor die Kamera setzen",
    "Range": "Bereich",
    "Raw Curves": "Rohe Kurven",
    "Raw Take": "Roher Take",
    "Relink Footage": "Film neu verknüpfen",
    "Relink Take": "Take neu verknüpfen",
    "Remove Correction": "Korrektur entfernen",
    "Remove Correction Layer": "Korrekturebene entfernen",
    "Remove Take": "Take entfernen",
    "Repair Left and Right": "Links und rechts reparieren",
    "Repairs": "Reparaturen",
    "Report": "Bericht",
    "Reset Calibration": "Kalibrierung zurücksetzen",
    "Reset to Defaults": "Auf Vorgaben zurücksetzen",
    "Retarget": "Übertragen",
    "Review": "Durchsicht",
    "Right Hand": "Rechte Hand",
    "Save Clean Take": "Bereinigten Take sichern",
    "Set Range": "Bereich setzen",
    "Set Up GPU Runtime": "GPU-Laufzeit einrichten",
    "Setup": "Einrichtung",
    "Show Log": "Protokoll zeigen",
    "Start Box": "Startrahmen",
    "Start Frame": "Startbild",
    "Strip": "Streifen",
    "Sync Again": "Neu abgleichen",
    "Takes Folder": "Takes-Ordner",
    "Tracking Camera": "Tracking-Kamera",
    "Trust": "Vertrauen",
    "Use Footage": "Film verwenden",
    "Use the Footage's Frame Rate": "Bildrate des Films verwenden",
    "Use the Footage's Length": "Länge des Films verwenden",
    "Use the Footage's Size": "Größe des Films verwenden",
    "Weights and Licence": "Gewichte und Lizenz",
    "Within": "Innerhalb",
    "Wrist Position": "Handgelenk-Position",
    "Wrist Rotation": "Handgelenk-Drehung",
}

LANGUAGES: Final = {"de_DE": GERMAN, "de": GERMAN}
"""Blender's name of a language -> its table; 4.2 calls German de_DE, newer ones de."""


def register() -> None:
    """Give Blender the tables."""
    tables = {
        language: {(context, word): translated for context in _CONTEXTS for word, translated in table.items()}
        for language, table in LANGUAGES.items()
    }
    bpy.app.translations.register(__package__, tables)


def unregister() -> None:
    """Take them back."""
    bpy.app.translations.unregister(__package__)
